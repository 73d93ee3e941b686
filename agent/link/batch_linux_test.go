package link

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func sockets(tb testing.TB) (from, to *socket, at netip.AddrPort) {
	tb.Helper()
	open := func() *socket {
		c, err := System().ListenUDP(0)
		if err != nil {
			tb.Skip("no UDP here:", err)
		}
		tb.Cleanup(func() { c.Close() })
		return newSocket(c)
	}
	from, to = open(), open()
	if from.batch == nil {
		tb.Fatal("a socket of the kernel, and no batches")
	}
	return from, to, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), to.port)
}

// filled returns datagrams of the given sizes that differ.
func filled(sizes ...int) (bufs [][]byte) {
	for i, n := range sizes {
		b := make([]byte, n)
		for j := range b {
			b[j] = byte(i + j)
		}
		bufs = append(bufs, b)
	}
	return bufs
}

func many(n, size int) (sizes []int) {
	for range n {
		sizes = append(sizes, size)
	}
	return sizes
}

// take receives n datagrams and compares them.
func take(t *testing.T, s *socket, want [][]byte) (messages int) {
	t.Helper()
	_ = s.SetReadDeadline(time.Now().Add(time.Minute))
	for len(want) > 0 {
		data, size, _, err := s.batch.receive()
		if err != nil {
			t.Fatal(err)
		}
		messages++
		for first := true; first || len(data) > 0; first = false {
			n := min(size, len(data))
			if string(data[:n]) != string(want[0]) {
				t.Fatalf("a datagram of %d bytes, want one of %d", n, len(want[0]))
			}
			data, want = data[n:], want[1:]
		}
	}
	return messages
}

func TestBatchesArriveAsSent(t *testing.T) {
	from, to, at := sockets(t)
	for _, whole := range []bool{false, true} {
		from.batch.whole.Store(whole)
		for _, sizes := range [][]int{
			{1}, {100, 100, 50}, {50, 100}, {100, 50, 100, 100}, {0, 10, 0, 0, 10}, {60000, 9000},
			many(45, 1452), append(many(20, 1400), 3), many(64, 40),
		} {
			bufs := filled(sizes...)
			if n, err := from.batch.send(bufs, at); n != len(bufs) || err != nil {
				t.Fatalf("%v: sent %d, %v", sizes, n, err)
			}
			take(t, to, bufs)
		}
	}
}

// What the kernel splits before the device it must not be given: the joined messages
// are where the speed comes from.
func TestFullMessagesStayWhole(t *testing.T) {
	from, to, at := sockets(t)
	for _, size := range []int{1312, 1340, 1400, 1424, 1452} {
		bufs := filled(many(45, size)...)
		n, err := from.batch.send(bufs, at)
		if n != len(bufs) || err != nil {
			t.Fatal(n, err)
		}
		if got := take(t, to, bufs); got > 2 {
			t.Errorf("%d of %d bytes: arrived in %d messages", len(bufs), size, got)
		}
	}
}

func TestBatchErrorsNameThePacket(t *testing.T) {
	from, to, at := sockets(t)
	bufs := filled(10, 20, 70000, 30)
	n, err := from.batch.send(bufs, at)
	if n != 2 || !errors.Is(err, syscall.EMSGSIZE) {
		t.Fatalf("sent %d, %v; want 2 and EMSGSIZE", n, err)
	}
	take(t, to, bufs[:2])
	from.Close()
	if n, err := from.batch.send(bufs[:1], at); n != 0 || err == nil {
		t.Fatal("sent by a closed socket", n, err)
	}
}

// A datagram that does not fit the way at once must go as fragments, not be lost because
// it would have shared a message.
func TestTooLargeForOnePacket(t *testing.T) {
	from, to, at := sockets(t)
	raw, _ := from.PacketConn.(*net.UDPConn).SyscallConn()
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
	})
	bufs := filled(many(3, 20000)...)
	if n, err := from.batch.send(bufs, at); n != len(bufs) || err != nil {
		t.Fatal(n, err)
	}
	take(t, to, bufs)
}

func TestReceiveHonoursTheDeadline(t *testing.T) {
	_, to, _ := sockets(t)
	_ = to.SetReadDeadline(time.Unix(1, 0))
	if _, _, _, err := to.batch.receive(); !os.IsTimeout(err) {
		t.Fatal(err)
	}
}

func TestBatchesDoNotAllocate(t *testing.T) {
	from, to, at := sockets(t)
	bufs := filled(many(40, 1452)...)
	if n := testing.AllocsPerRun(200, func() {
		if _, err := from.batch.send(bufs, at); err != nil {
			t.Fatal(err)
		}
		for got := 0; got < len(bufs); {
			data, size, _, err := to.batch.receive()
			if err != nil {
				t.Fatal(err)
			}
			got += (len(data) + size - 1) / size
		}
	}); n >= 1 {
		t.Fatalf("%v allocations a batch", n)
	}
}

func FuzzJoined(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{24, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 104, 0, 0, 0, 172, 5, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) { joined(b) })
}

// TestRoomIsTheKernels: what the link says is what the socket has, whatever was asked for,
// and nothing before there is one.
func TestRoomIsTheKernels(t *testing.T) {
	l, _, _ := alone(t, 1)
	if got := l.Room(); got != 0 {
		t.Fatalf("%d bytes without a socket of the kernel", got)
	}
	s, _, _ := sockets(t)
	l.udp.sock.Store(s)
	var want int
	raw, err := s.PacketConn.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) { want, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF) })
	if got := l.Room(); err != nil || got != want || got <= 0 {
		t.Fatalf("%d bytes, the socket has %d, %v", got, want, err)
	}
}
