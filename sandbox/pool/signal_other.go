//go:build !unix

package pool

import "syscall"

func signalled(any) syscall.Signal { return 0 }
