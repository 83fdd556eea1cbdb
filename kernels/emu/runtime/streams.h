// streams.h: what the emulated driver offers to libraries that queue work of their own, as NCCL does.
#ifndef BROADSIDE_EMU_STREAMS_H
#define BROADSIDE_EMU_STREAMS_H

#include <stddef.h>
#include <stdint.h>

#include <functional>
#include <mutex>

#pragma GCC visibility push(default)
namespace emu {

struct Stream;

// driver_lock is held by whoever uses the functions below.
std::recursive_mutex &driver_lock();

// current_device is the GPU whose context the thread has, -1 if none.
int current_device();

// on_device tells whether all bytes are of one block of a GPU's memory.
bool on_device(int device, const void *p, size_t bytes);

// submit_when queues what is tried, whenever the stream comes to it, until it returns true. It returns its place in
// the stream.
uint64_t submit_when(Stream *s, std::function<bool()> attempt);

// advance runs a stream until it has done so many; false if it does not get there yet.
bool advance(Stream *s, uint64_t until);

} // namespace emu
#pragma GCC visibility pop

#endif
