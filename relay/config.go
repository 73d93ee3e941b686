package relay

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/time/rate"

	"enclave/wire/frame"
	"enclave/wire/svid"
)

// Config is what a relay needs to know. Without Trust or TicketKey it runs and
// refuses everybody; Validate says so before.
type Config struct {
	Trust     func() svid.Trust // organisation, roots and clock; asked at each handshake, so roots can change
	Identity  svid.Source       // what Serve's TLS listener shows; not used by ServeConn
	TicketKey ed25519.PublicKey // control's, for pair tickets
	Logger    *slog.Logger      // nil is silence
	Limits    Limits            // zero fields are DefaultLimits'
}

// Limits bound what one client, and all of them, can cost.
type Limits struct {
	Clients       int // connected systems
	Handshakes    int // connections that have not proved who they are, an eighth of them from one source; they never take a client's place, and the oldest gives way
	PerAddress    int // connections, of either kind, from one IPv4 address or IPv6 /64
	Pairs         int // tickets one connection may hold open
	QueueBytes    int // waiting for one receiver, without what is being written
	QueueFrames   int
	Rate          rate.Limit // bytes a second that one client may send
	Burst         int        // bytes; at least the largest frame and the price of an Open
	Notices       rate.Limit // refusals and departures a second told to one client
	NoticeBurst   int
	Handshake     time.Duration // from accept to the client's Hello
	WriteTimeout  time.Duration // for each writeChunk; a receiver slower than that is cut
	PingEvery     time.Duration // a client unheard for so long is pinged, after three pings cut
	DrainGrace    time.Duration // from telling the clients to closing, in Shutdown
	STUNRate      rate.Limit    // answers a second to one IPv4 /24 or IPv6 /48
	STUNBurst     int
	STUNReads     rate.Limit // datagrams a second looked at on one socket; others wait in the kernel's queue
	STUNTableBits int        // 2^n buckets of 16 bytes; prefixes that meet in one share it
}

// DefaultLimits suit a lab and a small site: a gigabit for each client, ten thousand
// of them. Queues are a quarter of a megabyte, two milliseconds of a gigabit: a relay
// that buffers more only moves the delay out of sight of the ends that could slow down.
func DefaultLimits() Limits {
	return Limits{
		Clients:       10_000,
		Handshakes:    512,
		PerAddress:    512,
		Pairs:         4096,
		QueueBytes:    256 << 10,
		QueueFrames:   2048,
		Rate:          125e6,
		Burst:         4 << 20,
		Notices:       50,
		NoticeBurst:   200,
		Handshake:     10 * time.Second,
		WriteTimeout:  10 * time.Second,
		PingEvery:     20 * time.Second,
		DrainGrace:    5 * time.Second,
		STUNRate:      10,
		STUNBurst:     100,
		STUNReads:     20_000,
		STUNTableBits: 14,
	}
}

// Validate returns every mistake at once.
func (c *Config) Validate() error {
	var errs []error
	if c.Trust == nil {
		errs = append(errs, errors.New("relay: no trust: every client would be refused"))
	}
	if n := len(c.TicketKey); n != ed25519.PublicKeySize {
		errs = append(errs, fmt.Errorf("relay: ticket key of %d bytes, want %d", n, ed25519.PublicKeySize))
	}
	l := c.Limits.orDefaults()
	if l.Burst < minBurst {
		errs = append(errs, fmt.Errorf("relay: burst of %d bytes, want at least %d", l.Burst, minBurst))
	}
	if l.QueueBytes < frame.HeaderLen+frame.MaxBody {
		errs = append(errs, fmt.Errorf("relay: queue of %d bytes holds no full frame", l.QueueBytes))
	}
	if l.STUNTableBits > maxTableBits {
		errs = append(errs, fmt.Errorf("relay: 2^%d STUN buckets, at most 2^%d", l.STUNTableBits, maxTableBits))
	}
	return errors.Join(errs...)
}

// orDefaults fills the fields that are zero.
func (l Limits) orDefaults() Limits {
	d := DefaultLimits()
	for _, f := range []struct{ v, d *int }{
		{&l.Clients, &d.Clients}, {&l.Handshakes, &d.Handshakes}, {&l.PerAddress, &d.PerAddress},
		{&l.Pairs, &d.Pairs}, {&l.QueueBytes, &d.QueueBytes}, {&l.QueueFrames, &d.QueueFrames},
		{&l.Burst, &d.Burst}, {&l.NoticeBurst, &d.NoticeBurst},
		{&l.STUNBurst, &d.STUNBurst}, {&l.STUNTableBits, &d.STUNTableBits},
	} {
		if *f.v <= 0 {
			*f.v = *f.d
		}
	}
	for _, f := range []struct{ v, d *rate.Limit }{{&l.Rate, &d.Rate}, {&l.Notices, &d.Notices}, {&l.STUNRate, &d.STUNRate}, {&l.STUNReads, &d.STUNReads}} {
		if *f.v <= 0 {
			*f.v = *f.d
		}
	}
	for _, f := range []struct{ v, d *time.Duration }{
		{&l.Handshake, &d.Handshake}, {&l.WriteTimeout, &d.WriteTimeout},
		{&l.PingEvery, &d.PingEvery}, {&l.DrainGrace, &d.DrainGrace},
	} {
		if *f.v <= 0 {
			*f.v = *f.d
		}
	}
	return l
}
