//go:build unix

package seal

import "syscall"

// NoCoreDump keeps the keys in this process's memory out of a file that a crash would
// leave.
func NoCoreDump() error { return syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) }
