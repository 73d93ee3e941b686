// Package terminal runs a program on a terminal of its own, as a person would, and looks at
// what stands on its screen: a pseudo-terminal of the kernel with an emulator behind it.
//
// The terminal UI is tested on it, and the tapes of docs/tapes are played on it. It decides
// nothing and waits for text, never for time. The emulator and the package that opens the
// pseudo-terminal are used by tests only; no part of the product imports this package. It
// runs on Linux, where the modes of a terminal can be read back (decision 0166).
package terminal
