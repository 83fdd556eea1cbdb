//go:build cuda

/* driver.c: every function of the CUDA driver that this program calls, as a jump into libcuda.so.1.
 *
 * A program linked to libcuda.so.1 does not even start on a host without NVIDIA's driver. This one is not linked to it:
 * it opens the library when a GPU is asked for. A jump hands over all arguments as they are, so no function needs its
 * prototype here. The functions are hidden: libraries that bring their own driver do not see them. */

#define _GNU_SOURCE
#include "driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define HIDDEN __attribute__((visibility("hidden")))

enum { not_initialized = 3, not_found = 500 }; /* CUresult */

static int before_start(void) { return not_initialized; }
static int lacking(void) { return not_found; }

/* cuInit is called by gorgonia.org/cu as the program starts, which ends the process where it fails. It does nothing:
 * bs_driver_start calls the driver's. */
HIDDEN int cuInit(unsigned flags) {
  (void)flags;
  return 0;
}

#if defined(__x86_64__)
#define JUMP(slot) "jmp *" slot "(%rip)\n"
#elif defined(__aarch64__)
#define JUMP(slot) "adrp x16, " slot "\nldr x16, [x16, :lo12:" slot "]\nbr x16\n"
#else
#error "no CUDA driver for this processor"
#endif

#define FORWARD(name)                                                                                             \
  HIDDEN int (*bs_slot_##name)(void) = before_start;                                                              \
  __asm__(".text\n.globl " #name "\n.hidden " #name "\n.type " #name ", %function\n" #name ":\n" JUMP("bs_slot_" #name));
#include "driver_names.h"
#undef FORWARD

static void *library;
static char why[512];
static int (*text_of)(int, const char **);

const char *bs_driver_error(int status) {
  const char *text = NULL;
  if (text_of) text_of(status, &text);
  return text ? text : "unknown error";
}

static void load(void) {
  const char *name = getenv("BROADSIDE_LIBCUDA");
  if (!name || !*name) name = "libcuda.so.1";
  library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    snprintf(why, sizeof why, "no NVIDIA driver: %s", dlerror());
    return;
  }
#define FORWARD(name)                                          \
  *(void **)&bs_slot_##name = dlsym(library, #name);           \
  if (!bs_slot_##name) bs_slot_##name = lacking;
#include "driver_names.h"
#undef FORWARD
  int (*init)(unsigned);
  *(void **)&init = dlsym(library, "cuInit");
  *(void **)&text_of = dlsym(library, "cuGetErrorString");
  if (!init) {
    snprintf(why, sizeof why, "%s is no CUDA driver", name);
    return;
  }
  int status = init(0);
  if (status) snprintf(why, sizeof why, "the NVIDIA driver does not start: %s (error %d)", bs_driver_error(status), status);
}

const char *bs_driver_start(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, load);
  return why[0] ? why : NULL;
}

void *bs_driver_symbol(const char *name) { return library ? dlsym(library, name) : NULL; }
