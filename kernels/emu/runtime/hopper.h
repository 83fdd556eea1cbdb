// hopper.h: barriers that count bytes, bulk copies and products of warpgroups, as hopper.cpp emulates them.
#ifndef BROADSIDE_EMU_HOPPER_H
#define BROADSIDE_EMU_HOPPER_H

#include <stddef.h>
#include <stdint.h>

namespace emu {

// The address of shared memory as a GPU has it, of 32 bits. A block's dynamic memory does not begin at 0.
uint32_t shared_address(const void *p);

void init_barrier(const void *barrier, int arrivals);
void show_barriers();
void arrive(const void *barrier, int bytes); // bytes: announced with the arrival
void wait_phase(const void *barrier, uint32_t parity);

// Half of all blocks see a bulk copy at once, the other half as late as can be, and NaN before.
void copy_bulk(void *shared, const void *from, int bytes, const void *barrier);
void copy_box(void *shared, const void *map, const int *first, const void *barrier);

// A product is computed when the thread waits for its group. Until then its sums are NaN.
void fence_products();
void commit_products();
void wait_products(int newest);
void multiply_async(float *sum, int columns, const uint32_t *left, uint64_t right, bool tf32);

} // namespace emu

#endif
