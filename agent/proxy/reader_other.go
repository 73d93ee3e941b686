//go:build !unix

package proxy

import "net"

// socketReader has no way to read without waiting, so that a buffer is held meanwhile.
func socketReader(net.Conn) func() (buffer, int, error) { return nil }
