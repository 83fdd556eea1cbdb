// block.h: what emu.cpp and hopper.cpp share of the running block.
#ifndef BROADSIDE_EMU_BLOCK_H
#define BROADSIDE_EMU_BLOCK_H

#include <stddef.h>

namespace emu {

// hang ends the process with a message, where a GPU would hang, fault or compute garbage.
[[noreturn]] void hang(const char *what);

// The running thread's number in its block, and the threads of a block.
int thread();
int threads();

// Bits that change from block to block.
unsigned order();

// expect_shared ends the process unless all bytes are of the block's dynamic shared memory.
void expect_shared(const void *p, size_t bytes);

// wait_event stops the running thread until another calls wake with the same event.
void wait_event(const void *event);
void wake(const void *event);

// hopper.cpp: what happens as a block begins, when all its threads wait (true: something did), and as it ends.
void begin_hopper();
bool advance_hopper();
void end_hopper();

} // namespace emu

#endif
