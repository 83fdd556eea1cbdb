/* driver.h: the CUDA driver, loaded when it is asked for. */
#ifndef BROADSIDE_CUDA_DRIVER_H
#define BROADSIDE_CUDA_DRIVER_H

/* Loads libcuda.so.1, or the library that the environment variable BROADSIDE_LIBCUDA names, and initialises it.
 * Returns NULL, or why there is no driver to work with. Later calls return what the first did. */
const char *bs_driver_start(void);

/* What the driver calls an error (CUresult). */
const char *bs_driver_error(int status);

/* A function of the loaded driver, NULL if it has none of that name. */
void *bs_driver_symbol(const char *name);

#endif
