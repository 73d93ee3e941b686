//go:build !windows

package passage

import "syscall"

// bothFamilies lets an IPv6 socket carry IPv4, too (RFC 3493, section 5.3). Not every
// system can.
func bothFamilies(fd uintptr) error {
	return syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 0)
}
