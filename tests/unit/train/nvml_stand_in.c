/* A libnvidia-ml.so.1 for machines without NVIDIA's: one card, as the environment describes it.

   Signatures, codes and structures are those of NVIDIA's nvml.h, so that what is tested is the way
   through pynvml and ctypes to a C library. Each reading adds 1.5 J to the energy counter. */

#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, GPU_IS_LOST = 15 };

typedef struct { unsigned int gpu, memory; } utilization_t;
typedef struct { unsigned long long total, free, used; } memory_t;

static int opened, readings;

static int lacks(const char *what) {
  const char *names = getenv("STAND_IN_LACKS");
  return names && strstr(names, what) != NULL;
}

int nvmlInitWithFlags(unsigned int flags) { (void)flags; opened++; return SUCCESS; }
int nvmlShutdown(void) { return opened-- > 0 ? SUCCESS : 1; }
const char *nvmlErrorString(int code) { (void)code; return "an error of the stand-in"; }

int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
  const char *ours = getenv("STAND_IN_UUID");
  if (!ours || strcmp(uuid, ours)) return NOT_FOUND;
  *device = &readings;
  return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(void *device, utilization_t *rates) {
  if (device != &readings) return GPU_IS_LOST;
  if (lacks("utilization")) return NOT_SUPPORTED;
  rates->gpu = 37;
  rates->memory = 99;
  return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
  (void)device;
  if (lacks("memory")) return NOT_SUPPORTED;
  memory->total = 24ULL << 30;
  memory->used = 5ULL << 30;
  memory->free = memory->total - memory->used;
  return SUCCESS;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned int *milliwatts) {
  (void)device;
  if (lacks("power")) return NOT_SUPPORTED;
  *milliwatts = 211500;
  return SUCCESS;
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules) {
  (void)device;
  if (lacks("energy")) return NOT_SUPPORTED;
  *millijoules = 7000000ULL + 1500ULL * (unsigned long long)readings++;
  return SUCCESS;
}
