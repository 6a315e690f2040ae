"""A clock of the system that a test can set for its processes: a library that is loaded before the C library."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
static volatile int64_t *step;
static int (*real)(clockid_t, struct timespec *);
__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("STEPPED_CLOCK");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  void *map = file < 0 ? MAP_FAILED : mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
  if (map != MAP_FAILED) step = map;
}
int clock_gettime(clockid_t id, struct timespec *now) {
  if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int result = real(id, now);
  if (!result && id == CLOCK_REALTIME && step) now->tv_sec += *step;
  return result;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec exact;
  int result = clock_gettime(CLOCK_REALTIME, &exact);
  now->tv_sec = exact.tv_sec, now->tv_usec = exact.tv_nsec / 1000;
  return result;
}
time_t time(time_t *into) {
  struct timespec exact;
  clock_gettime(CLOCK_REALTIME, &exact);
  if (into) *into = exact.tv_sec;
  return exact.tv_sec;
}
"""


class SteppedClock:
    """`environ` makes processes see the time of the system and `step` seconds, which may change while they run."""

    def __init__(self, folder: Path) -> None:
        library, self._file = folder / "clock.so", folder / "clock.step"
        self.step(0)
        compiler = ["cc", "-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", str(library), "-ldl"]
        subprocess.run(compiler, input=SOURCE, text=True, check=True, capture_output=True)
        self.environ = {"LD_PRELOAD": str(library), "STEPPED_CLOCK": str(self._file)}

    @staticmethod
    def is_available() -> bool:
        """Whether there is a compiler to make it."""
        return shutil.which("cc") is not None

    def step(self, seconds: int) -> None:
        """Set the clock: so many seconds before (below 0) or after the system's."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=q", seconds))
