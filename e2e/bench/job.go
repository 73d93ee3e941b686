package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"time"
)

// job is one measurement, in words that travel to another process.
type job struct {
	Do      string        `json:"do"`
	Streams int           `json:"streams,omitempty"`
	Each    time.Duration `json:"each,omitempty"`
	N       int           `json:"n,omitempty"`
	Rate    int           `json:"rate,omitempty"` // packets a second

	Target string `json:"target,omitempty"` // of attack
	As     string `json:"as,omitempty"`     // in whose name; may be empty

	Node *nodeConfig `json:"node,omitempty"` // of start
	Peer *stockPeer  `json:"peer,omitempty"` // of introduce

	Carrier string     `json:"carrier,omitempty"` // of serve
	Side    *RelaySide `json:"side,omitempty"`
}

// dialer opens a flow to the service of the other node.
type dialer func(ctx context.Context, network string) (net.Conn, error)

// The measurements, and what each returns.
const (
	doGoodput = "goodput" // Gbit/s; Gbit for a second of the processor time of this process; allocations a packet
	doTCPEcho = "tcp"     // round trip p50, p99 in microseconds
	doUDPEcho = "udp"     // likewise
	doFlood   = "flood"   // sent, lost; packets a second
	doMemory  = "memory"  // resident MB now, MB at most so far
)

// measure does a job over dial.
func measure(ctx context.Context, j *job, dial dialer) ([]float64, error) {
	switch j.Do {
	case doGoodput:
		var before, after runtime.MemStats // the pouring goes on between the two
		var used [2]time.Duration
		v, err := goodput(j.Streams, j.Each, func() (net.Conn, error) { return dial(ctx, "tcp") },
			func() {
				before = after
				runtime.ReadMemStats(&after)
				used = [2]time.Duration{used[1], processor()}
			})
		packets := v * 1e9 / 8 * j.Each.Seconds() / (mtu - 52)
		byTime := 0.0
		if took := used[1] - used[0]; took > 0 {
			byTime = v * j.Each.Seconds() / took.Seconds()
		}
		return []float64{v, byTime, float64(after.Mallocs-before.Mallocs) / max(packets, 1)}, err
	case doTCPEcho, doUDPEcho:
		rtt, err := roundTrips(j.N, func() (net.Conn, error) { return dial(ctx, j.Do) })
		if err != nil {
			return nil, err
		}
		slices.Sort(rtt)
		us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
		return []float64{us(rtt[len(rtt)/2]), us(rtt[len(rtt)*99/100])}, nil
	case doFlood:
		return flood(ctx, j.Rate, j.Each, dial)
	case doMemory:
		now, most := resident()
		return []float64{now, most}, nil
	}
	return nil, fmt.Errorf("measure %q: no such thing", j.Do)
}

// floodSize is the payload of the small packets, in bytes.
const floodSize = 64

// floodBurst is how many leave together: a clock tick's worth at the usual rate.
const floodBurst = 100

// flood sends datagrams at a rate and asks how many came.
func flood(ctx context.Context, rate int, each time.Duration, dial dialer) ([]float64, error) {
	c, err := dial(ctx, "udp")
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, err := ask(c); err != nil { // opens the flow and sets the count to nothing
		return nil, err
	}
	pkt := make([]byte, floodSize)
	pkt[0] = count
	sent := 0
	began := time.Now()
	for ; time.Since(began) < each; sent += floodBurst {
		for due := began.Add(time.Duration(sent) * time.Second / time.Duration(rate)); ; {
			wait := time.Until(due)
			if wait <= 0 {
				break
			}
			time.Sleep(wait)
		}
		for range floodBurst {
			if _, err := c.Write(pkt); err != nil {
				return nil, err
			}
		}
	}
	took := time.Since(began)
	time.Sleep(300 * time.Millisecond) // what is still under way
	came, err := ask(c)
	if err != nil {
		return nil, err
	}
	return []float64{float64(sent), float64(sent) - float64(came), float64(sent) / took.Seconds()}, nil
}

// ask asks how many counted datagrams came since the last time. A lost question would
// set the count back unseen, so it carries a number and the answer is repeated for it.
func ask(c net.Conn) (uint64, error) {
	question := []byte{total, 0, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint64(question[1:], uint64(time.Now().UnixNano()))
	answer := make([]byte, 64)
	for range 50 {
		if _, err := c.Write(question); err != nil {
			return 0, err
		}
		_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := c.Read(answer)
		if err == nil && n == 17 && string(answer[:9]) == string(question) {
			return binary.BigEndian.Uint64(answer[9:]), nil
		}
	}
	return 0, errors.New("count datagrams: no answer")
}

// What a datagram asks of the server with its first byte; echo is the third.
const (
	count = 'c'
	total = 't'
)

// servePackets answers datagrams until pc is closed.
func servePackets(pc net.PacketConn) {
	buf := make([]byte, 2048)
	var n, said uint64
	var asked string
	for {
		size, from, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		if size == 0 {
			continue
		}
		switch buf[0] {
		case count:
			n++
		case total:
			if string(buf[:size]) != asked {
				asked, said, n = string(buf[:size]), n, 0
			}
			_, _ = pc.WriteTo(binary.BigEndian.AppendUint64(buf[:size], said), from)
		default:
			_, _ = pc.WriteTo(buf[:size], from)
		}
	}
}
