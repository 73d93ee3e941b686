package seal

import (
	"unsafe"

	"golang.org/x/sys/windows"
)

// pin keeps b, and what shares its page of memory, out of the page file.
func pin(b []byte) {
	if len(b) > 0 {
		_ = windows.VirtualLock(uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	}
}

// CanPin reports whether the system lets this process keep memory out of the page file.
func CanPin() error {
	b := make([]byte, pageSize)
	at := uintptr(unsafe.Pointer(&b[0]))
	if err := windows.VirtualLock(at, pageSize); err != nil {
		return err
	}
	return windows.VirtualUnlock(at, pageSize)
}
