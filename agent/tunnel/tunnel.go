package tunnel

import (
	"context"
	"crypto/ecdh"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"enclave/agent/filter"
	"enclave/wire"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
)

// DefaultMTU is the size of the largest inner packet, in bytes. 1280 is what IPv6
// demands of every link (RFC 8200 section 5), and with WireGuard's 60 or 80 bytes
// around it a packet still fits the narrowest path that is found in practice.
const DefaultMTU = 1280

// maxMTU keeps an inner packet with WireGuard's overhead inside one message buffer.
const maxMTU = 65535 - 128

// Filter decides on every packet; *filter.Table is the one. Each is a whole IP packet of
// at most the MTU, that the filter must neither keep nor change. All methods are called from
// several goroutines at once and must not block: the whole data plane waits for them.
type Filter interface {
	// InBatch judges packets that were decrypted, before the local stack sees them:
	// out[i] is the verdict on what bufs[i] has at offset. Their source is one of the
	// peer's own addresses: WireGuard has dropped all others.
	InBatch(bufs [][]byte, offset int, now time.Time, out []filter.Verdict)
	// OutBatch judges packets of the local stack before they are encrypted: out[i] is
	// the verdict on the sizes[i] bytes at offset in bufs[i]. Where via[i] is valid the
	// packet is wrapped for that system (filter.Wrap) before it is encrypted.
	OutBatch(bufs [][]byte, sizes []int, offset int, now time.Time, out []filter.Verdict, via []netip.Addr)
	// RejectIn returns what to send to the peer for a packet that In refused, RejectOut
	// what to hand to the local stack for one that Out refused; nil is silence. They
	// bound how often they answer, and never answer with what provokes an answer.
	RejectIn(pkt []byte, v filter.Verdict, now time.Time) []byte
	RejectOut(pkt []byte, v filter.Verdict, now time.Time) []byte
}

// Config is what a tunnel is made of.
type Config struct {
	Addrs      []netip.Addr // the system's overlay addresses; at least one
	MTU        int          // bytes; 0 means DefaultMTU
	PrivateKey [32]byte     // Curve25519
	Bind       conn.Bind    // owned by the tunnel from New on: Close closes it
	Filter     Filter
	Netstack   Netstack     // which TCP/IP stack; empty means Enclave
	Logger     *slog.Logger // nil discards
	// Lazy gives WireGuard only the peers that talk. The endpoints of Bind must be Keyed:
	// else a peer is reached, but cannot begin.
	Lazy bool
}

func (c *Config) check() error {
	var errs []error
	if len(c.Addrs) == 0 {
		errs = append(errs, errors.New("no overlay address"))
	}
	for i, a := range c.Addrs {
		if slices.Contains(c.Addrs[:i], a) {
			errs = append(errs, fmt.Errorf("addrs[%d]: %s is given twice", i, a))
		}
		if !a.IsValid() || a.Is4In6() || a.IsUnspecified() || a.Zone() != "" {
			errs = append(errs, fmt.Errorf("addrs[%d]: %s is no overlay address", i, a))
		}
	}
	if c.MTU < 576 || c.MTU > maxMTU {
		errs = append(errs, fmt.Errorf("mtu: %d is outside 576 to %d", c.MTU, maxMTU))
	}
	if c.PrivateKey == [32]byte{} {
		errs = append(errs, errors.New("no private key"))
	}
	if c.Bind == nil {
		errs = append(errs, errors.New("no bind"))
	}
	if c.Filter == nil {
		errs = append(errs, errors.New("no filter"))
	}
	if err := c.Netstack.Check(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Tunnel is one node of the overlay. All methods are safe for concurrent use.
type Tunnel struct {
	stack   ipStack
	guard   *guard
	key     wire.WireGuardKey // our own public key
	dev     *device.Device
	spoofed atomic.Uint64
	close   sync.Once

	// mu guards peers, and is held while the device is configured so that two
	// callers cannot interleave their differences.
	mu    sync.Mutex
	peers map[wire.WireGuardKey]*entry

	paths     pathSizes
	lazy      bool
	log       *slog.Logger
	directory atomic.Pointer[directory] // nil unless lazy
	wishes    chan wish
	closing   chan struct{}
	keeper    sync.WaitGroup
}

// New checks cfg and builds the parts. wireguard-go starts its workers in its
// constructor, so a tunnel must be closed even when it was never brought up; no
// packet is sent or received before Up.
func New(cfg Config) (*Tunnel, error) {
	if cfg.MTU == 0 {
		cfg.MTU = DefaultMTU
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("new tunnel: %w", err)
	}
	private, err := ecdh.X25519().NewPrivateKey(cfg.PrivateKey[:])
	if err != nil {
		return nil, fmt.Errorf("new tunnel: private key: %w", err)
	}
	s, err := cfg.Netstack.open(cfg.Addrs, cfg.MTU)
	if err != nil {
		return nil, fmt.Errorf("new tunnel: %w", err)
	}
	t := &Tunnel{
		stack: s, guard: newGuard(s, cfg.Filter, cfg.Addrs),
		key: wire.WireGuardKey(private.PublicKey().Bytes()), peers: make(map[wire.WireGuardKey]*entry),
		lazy: cfg.Lazy, log: cfg.Logger, wishes: make(chan wish), closing: make(chan struct{}),
	}
	if c, ok := s.(cutter); ok {
		t.paths = pathSizes{addrs: make(map[wire.WireGuardKey][]netip.Addr), sizes: make(map[wire.WireGuardKey]int), limits: c.limits()}
	}
	t.guard.rouse = t.rouseFor
	hold := func(int) {}
	if n, ok := s.(*nic); ok {
		hold = n.growth.hold
	}
	t.dev = device.NewDevice(t.guard, &meter{cfg.Bind, &t.guard.flight, &t.guard.inward, t.rouseFrom, hold}, t.deviceLogger(cfg.Logger))
	// Roaming is the bind's business. With WireGuard's own on, a relay that lies about
	// who sent a packet would move a peer's endpoint to somebody else.
	t.dev.DisableSomeRoamingForBrokenMobileSemantics()
	if err := t.dev.IpcSet("private_key=" + hex.EncodeToString(cfg.PrivateKey[:]) + "\n"); err != nil {
		t.Close()
		return nil, fmt.Errorf("new tunnel: private key: %w", err)
	}
	if t.lazy {
		t.keeper.Go(t.keep)
	}
	return t, nil
}

// Up opens the bind and starts the peers.
func (t *Tunnel) Up() error {
	if err := t.dev.Up(); err != nil {
		return fmt.Errorf("bring tunnel up: %w", err)
	}
	return nil
}

// Run brings the tunnel up, waits for ctx to end and closes the tunnel.
func (t *Tunnel) Run(ctx context.Context) error {
	defer t.Close()
	if err := t.Up(); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// Close resets every connection, forgets all keys and closes the bind. Connections
// and listeners of the tunnel return errors from then on. It is idempotent.
func (t *Tunnel) Close() error {
	t.close.Do(func() {
		t.stack.Abort() // while WireGuard still runs: peers learn it from a reset
		close(t.closing)
		t.dev.Close() // closes guard and stack on its way
		t.keeper.Wait()
	})
	return nil
}

// Inject delivers packets that no filter sees: local go up to the stack, remote are
// encrypted and sent. They are what a cut leaves to say to the two ends of a flow.
// Remote packets are copied; of a flood that outruns the sender the excess is lost,
// which only costs the far end the wait for its own cut.
func (t *Tunnel) Inject(local, remote [][]byte) {
	t.guard.inject(local, remote)
}

// Spoofed counts the packets that WireGuard dropped because their inner source was
// not an address of the peer that encrypted them.
func (t *Tunnel) Spoofed() uint64 { return t.spoofed.Load() }

// The formats under which wireguard-go reports a packet with a foreign inner source
// (device/receive.go). It keeps no counter, so the log line is the only trace;
// TestSpoofedSourceIsCounted fails when an upgrade words it differently.
const (
	spoofed4 = "IPv4 packet with disallowed source address from %v"
	spoofed6 = "IPv6 packet with disallowed source address from %v"
)

func (t *Tunnel) deviceLogger(log *slog.Logger) *device.Logger {
	ctx := context.Background()
	return &device.Logger{
		Verbosef: func(format string, args ...any) {
			if format == spoofed4 || format == spoofed6 {
				t.spoofed.Add(1)
			}
			if log.Enabled(ctx, slog.LevelDebug) {
				log.Debug("wireguard: " + fmt.Sprintf(format, args...))
			}
		},
		Errorf: func(format string, args ...any) {
			log.Warn("wireguard: " + fmt.Sprintf(format, args...))
		},
	}
}
