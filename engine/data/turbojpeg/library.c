//go:build unix

/* library.c: the functions of libturbojpeg.so.0 that this package calls, with the prototypes of turbojpeg.h. */
#define _GNU_SOURCE /* dladdr */
#include "library.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { pixels_rgb = 0, color_cmyk = 3, color_ycck = 4, limit_scans = 32768, error_warning = 0 };

#if defined(__APPLE__)
static const char *const usual_name = "libturbojpeg.dylib";
#else
static const char *const usual_name = "libturbojpeg.so.0";
#endif

#define FUNCTIONS                                                                                                  \
  F(void *, InitDecompress, (void))                                                                                \
  F(int, DecompressHeader3, (void *, const unsigned char *, unsigned long, int *, int *, int *, int *))            \
  F(int, Decompress2, (void *, const unsigned char *, unsigned long, unsigned char *, int, int, int, int, int))    \
  F(int, Destroy, (void *))                                                                                        \
  F(int, GetErrorCode, (void *))                                                                                   \
  F(char *, GetErrorStr2, (void *))

static struct {
#define F(type, name, parameters) type(*name) parameters;
  FUNCTIONS
#undef F
} tj;

static char why[512], path[4096];

static void *find(void *library, const char *name) {
  void *function = dlsym(library, name);
  if (!function && !why[0]) snprintf(why, sizeof why, "libturbojpeg has no function %s", name);
  return function;
}

static void load(void) {
  const char *name = getenv("BROADSIDE_LIBTURBOJPEG");
  if (!name || !*name) name = usual_name;
  void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    snprintf(why, sizeof why, "%s", dlerror());
    return;
  }
#define F(type, name, parameters) *(void **)&tj.name = find(library, "tj" #name);
  FUNCTIONS
#undef F
  Dl_info info;
  if (!why[0] && dladdr(*(void **)&tj.InitDecompress, &info)) snprintf(path, sizeof path, "%s", info.dli_fname);
}

const char *bs_jpeg_load(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, load);
  return why[0] ? why : NULL;
}

const char *bs_jpeg_path(void) { return path; }
void *bs_jpeg_open(void) { return tj.InitDecompress(); }
void bs_jpeg_close(void *decoder) { tj.Destroy(decoder); }
const char *bs_jpeg_message(void *decoder) { return tj.GetErrorStr2(decoder); }

static int status(void *decoder, int result) {
  if (result == 0) return 0;
  return tj.GetErrorCode(decoder) == error_warning ? 1 : -1;
}

int bs_jpeg_header(void *decoder, const unsigned char *file, unsigned long size, int *width, int *height, int *rgb) {
  int subsampling = 0, color = 0;
  int result = status(decoder, tj.DecompressHeader3(decoder, file, size, width, height, &subsampling, &color));
  *rgb = color != color_cmyk && color != color_ycck;
  return result < 0 || *width < 1 || *height < 1 ? -1 : 0;
}

int bs_jpeg_decode(void *decoder, const unsigned char *file, unsigned long size, int width, int height, unsigned char *pixels) {
  return status(decoder, tj.Decompress2(decoder, file, size, pixels, width, 3 * width, height, pixels_rgb, limit_scans));
}
