/* library.h: what this package calls of libturbojpeg, loaded at run time. */
#ifndef BROADSIDE_TURBOJPEG_H
#define BROADSIDE_TURBOJPEG_H

/* Loads the library, once. Returns why there is none, or NULL. */
const char *bs_jpeg_load(void);
/* The file that the library was loaded from. */
const char *bs_jpeg_path(void);

void *bs_jpeg_open(void);
void bs_jpeg_close(void *decoder);

/* Reads a header: width, height, and whether the image can be decoded to RGB. Returns 0, or -1. */
int bs_jpeg_header(void *decoder, const unsigned char *file, unsigned long size, int *width, int *height, int *rgb);
/* Decodes to rows of width RGB pixels, scaled to width x height. Returns 0, 1 for a warning, or -1. */
int bs_jpeg_decode(void *decoder, const unsigned char *file, unsigned long size, int width, int height, unsigned char *pixels);
/* What the last call had to say. */
const char *bs_jpeg_message(void *decoder);

#endif
