package link

import (
	"context"
	"errors"

	"golang.zx2c4.com/wireguard/conn"

	"enclave/wire"
)

var (
	// ErrUnknownPeer is returned for a system that is not in the last SetPeers.
	ErrUnknownPeer           = errors.New("no such peer")
	_              conn.Bind = (*Link)(nil)
)

// Link carries packets between this system and its peers.
type Link struct {
	cfg Config
}

// New checks cfg and returns a Link that Run brings to life.
func New(cfg Config) (*Link, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Link{cfg: cfg}, nil
}

// Run works until ctx ends; it returns when everything it started has ended.
func (l *Link) Run(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// SetPeers replaces the peers. When it returns, no packet of a peer that is gone is
// sent or accepted any more.
func (l *Link) SetPeers(peers []Peer) {}

// SetRelays replaces the relays.
func (l *Link) SetRelays(relays []wire.Relay) {}

// Status returns how each peer is reached, sorted by ID.
func (l *Link) Status() []PeerStatus { return nil }

// Ping measures the round trip to a peer by its current route.
func (l *Link) Ping(ctx context.Context, id wire.SystemID) (Result, error) {
	return Result{}, ErrUnknownPeer
}

// Reach returns what others should know of this system.
func (l *Link) Reach() wire.Reach { return wire.Reach{} }

// NetInfo returns what is known of the network.
func (l *Link) NetInfo() NetInfo { return NetInfo{} }

// Drops returns the counts of what was dropped.
func (l *Link) Drops() Drops { return Drops{} }

// Open implements conn.Bind.
func (l *Link) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) { return nil, 0, nil }

// Close implements conn.Bind.
func (l *Link) Close() error { return nil }

// SetMark implements conn.Bind.
func (l *Link) SetMark(uint32) error { return nil }

// Send implements conn.Bind.
func (l *Link) Send(bufs [][]byte, ep conn.Endpoint) error { return nil }

// ParseEndpoint implements conn.Bind.
func (l *Link) ParseEndpoint(s string) (conn.Endpoint, error) { return nil, ErrUnknownPeer }

// BatchSize implements conn.Bind.
func (l *Link) BatchSize() int { return 8 }
