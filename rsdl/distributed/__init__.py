"""The processes that train together: who is who, how they meet, and how they hear of a failure."""
