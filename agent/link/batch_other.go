//go:build !linux

package link

import "net/netip"

// batcher is nothing here: packets go one at a time.
type batcher struct{ room int }

func newBatcher(PacketConn) *batcher { return nil }

func newSender(PacketConn) *batcher { return nil }

func (*batcher) send(bufs [][]byte, _ netip.AddrPort) (int, error) { return len(bufs), nil }

func (*batcher) receive() (data []byte, size int, from netip.AddrPort, err error) { return }

func (*batcher) ready() bool { return false }

func (*batcher) raise(*sieve) error { return nil }

func (*batcher) lower() {}
