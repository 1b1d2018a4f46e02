"""Train as one rank: resume the run of a config, evaluate it and write its report."""

import sys
from dataclasses import replace

from rich.console import Console

from rsdl.commands.report import write_report
from rsdl.config.run import RunConfig
from rsdl.core.errors import UNAVAILABLE, PreemptedError
from rsdl.core.image_size import show_size
from rsdl.distributed.rank import RankInfo, is_main
from rsdl.distributed.rendezvous import leave_group
from rsdl.evaluate.evaluator import evaluate_checkpoint
from rsdl.records.run_record import BEST
from rsdl.storage.connect import connect, join
from rsdl.tasks.base import show_share
from rsdl.train.build import open_session
from rsdl.train.owner import OwnedError
from rsdl.train.ranks import Ranks, find_ranks, init_process_group
from rsdl.train.run_folder import (
    ExistingRun,
    RunFolder,
    as_begun,
    check_same_run,
    find_existing_run,
)
from rsdl.train.session import (
    Session,
    close_run,
    explain_ending,
    finish_uploads,
    fit,
    write_ending,
)
from rsdl.train.signals import StopRequest
from rsdl.train.tensorboard import upload_events
from rsdl.train.trainer import fit_to_ranks


def train_rank(
    config: RunConfig, place: RankInfo | None, stop: StopRequest, *, restart: bool
) -> int:
    """Train as one rank of a run.

    Args:
        config: Config of the run.
        place: This process's rank; ``None`` if it is the only one.
        stop: Signal handler that is installed.
        restart: Whether to delete an existing run and begin again.

    Returns:
        0 when the run is completed, or 75 where another rank says that it was preempted.

    Raises:
        RsdlError: As :func:`rsdl.commands.train.train`.
    """
    trainer = fit_to_ranks(config.trainer, place)
    config = config.model_copy(update={"trainer": trainer})
    console = Console(file=sys.stdout, soft_wrap=True, quiet=not is_main())
    ranks = find_ranks(trainer, stop)
    try:
        init_process_group(ranks, trainer)
        code = train_together(config, ranks, console, restart=restart)
        leave_group()
        return code
    except BaseException as error:
        ending = ranks.heartbeat.final_error(explain_ending(error, stop))
        if isinstance(ending, PreemptedError) and ranks.rank_info.local_rank:
            return ending.exit_code  # local rank 0 prints the message
        if ending is error:
            raise
        raise ending from error
    finally:
        ranks.heartbeat.close()


def train_together(config: RunConfig, ranks: Ranks, console: Console, *, restart: bool) -> int:
    """Train as one rank of an initialized process group."""
    store = connect(join(config.output, config.name), storage=config.storage)
    # Rank 0 waits for the shards of other ranks: not between two steps.
    folder = RunFolder(store, background=config.trainer.strategy == "fsdp" or None)
    try:
        return train_in(folder, config, ranks, console, restart=restart)
    finally:
        folder.release()


def take_folder(folder: RunFolder, found: str | None, *, restart: bool) -> None:
    """Acquire a run's folder after set-up has succeeded.

    Args:
        folder: The run's folder.
        found: The record as JSON, as found at the start of set-up.
        restart: Whether the existing run is to be deleted.

    Raises:
        OwnedError: If another process trains there, or did so since set-up began.
    """
    folder.own()
    record = folder.read_record()
    if not restart and (record.model_dump_json() if record else None) != found:
        error = OwnedError(folder.store.url, "was trained by another just now", "run it again")
        error.exit_code = UNAVAILABLE
        raise error


def train_in(
    folder: RunFolder, config: RunConfig, ranks: Ranks, console: Console, *, restart: bool
) -> int:
    """Train in a folder that rank 0 acquires."""
    # All ranks use what rank 0 finds: others may look before or after rank 0 writes.
    begun = ranks.broadcast(
        ExistingRun() if restart or not is_main() else find_existing_run(folder)
    )
    if (known := begun.record) is not None:
        config = as_begun(config, folder)
        begun = replace(begun, is_extended=check_same_run(config, known, folder))
        if known.status == "completed" and not begun.is_extended:
            console.print(f"{folder.store.url} is completed; --restart begins anew")
            return 0
    found = begun.record.model_dump_json() if begun.record is not None else None
    ranks.stop.check()
    session = open_session(config, folder, begun, ranks, console)
    ranks.stop.check()
    # Acquire only after all checks, so that wrong input leaves no files.
    if is_main():
        take_folder(folder, found, restart=restart)
    ranks.broadcast(None)
    if restart and is_main():
        folder.clear()
    # If another rank is gone, write the status at once and drop unfinished uploads.
    ranks.heartbeat.on_end = lambda failure: write_ending(
        session, failure.to_error(ranks.rank_info)
    )
    try:
        announce(session, resumes=begun.has_state)
        if begun.is_extended:
            announce_extension(session)
        fit(session, begun)
        finish(session)
    except BaseException as error:
        ending = ranks.heartbeat.final_error(explain_ending(error, ranks.stop))
        ending = close_run(session, ending)
        if ending is error:
            raise
        raise ending from error
    # Wait for rank 0: a rank that exits 0 is not restarted, and a restarted peer would hang.
    ranks.heartbeat.on_end = lambda failure: None
    ranks.broadcast(None)
    return 0


def finish(session: Session) -> None:
    """Evaluate the best weights on the test split, if there is one, and write the report."""
    folder, record = session.folder, session.recorder.record
    finish_uploads(session)
    split = session.data.data.evaluated_split
    evaluation = evaluate_checkpoint(session, BEST, split).evaluation
    if not is_main():
        return
    record.metrics = dict(record.metrics) | {split: dict(evaluation.metrics)}
    record.status, record.reason = "completed", ""
    upload_events(session.trainer, folder.uploads)
    # Report first, record last: a run killed in between is not completed and reports again.
    path = write_report(folder, evaluation, record)
    session.recorder.write(session.trainer)
    folder.uploads.drain()
    label, best = record.facts.label, "not validated, last weights: "
    if (found := record.metrics.get("best")) is not None:
        epoch = int(found["epoch"] or 0) + 1
        best = f"best validation {label} {show_share(record.score('best'))} (epoch {epoch}), "
    session.console.print(
        f"{best}{split} {label} {show_share(record.score(split))} "
        f"on {evaluation.num_samples} images\nreport: {path}",
        highlight=False,
    )


def announce(session: Session, *, resumes: bool) -> None:
    """Print the model, data set, devices and folder of the run."""
    record, manifest = session.recorder.record, session.data.data.manifest
    counts = ", ".join(f"{split.samples:,} {name}" for name, split in manifest.splits.items())
    size = f"{show_size(record.image_size)} px"
    optim = session.config.optim
    folded = "".join(f"{line}\n" for line in session.data.data.describe_fold())
    scaled = f" from optim.base_lr={optim.base_lr:g}" if optim.base_lr is not None else ""
    session.console.print(
        f"{record.name}: {record.timm_model} ({record.parameters / 1e6:.1f} M parameters) on "
        f"{manifest.dataset} ({counts}; {len(manifest.classes)} classes, {len(manifest.bands)} "
        f"bands) at {size}, normalised by {session.module.normalized_by}, "
        f"batch {record.global_batch}, {record.device_count} x {record.device_name}\n{folded}"
        f"{optim.name} at a learning rate of {optim.lr:.3g}{scaled}\n"
        f"{'resuming' if resumes else 'writing to'} {session.folder.store.url}",
        highlight=False,
    )


def announce_extension(session: Session) -> None:
    """Print how much longer a completed run becomes, and what that does to its learning rate."""
    record, optim, end = session.recorder.record, session.config.optim, session.module.num_steps
    rate = (
        "the cosine of optim.schedule is recomputed to end there, so the learning rate rises again"
        if optim.schedule == "cosine"
        else f"optim.schedule={optim.schedule} does not depend on the length"
    )
    session.console.print(
        f"extending a completed run of {record.extended_at[-1]:,} steps to {end:,} "
        f"({record.epochs_planned} epochs): {rate}",
        highlight=False,
    )
