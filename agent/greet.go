package agent

import (
	"context"
	"time"

	"enclave/wire"
)

const (
	greetEvery = time.Second
	greetFor   = 30 * time.Second
	// greetMost bounds how many peers are greeted: in a large mesh the others find out
	// when they next have something to say.
	greetMost = 64
)

// greet begins a session with the peers of a map that came from disk. Theirs with us
// is older than our restart: they send into it, nobody here can decrypt that, and
// WireGuard on their side takes 15 s to notice (section 6.1 of its paper). A handshake
// from here replaces it. The first may go astray while they still send to where we
// were, so it is repeated until there is a session.
func (a *Agent) greet(ctx context.Context, p *parts, peers []wire.Peer) {
	ctx, cancel := context.WithTimeout(ctx, greetFor)
	defer cancel()
	owed := peers[:min(len(peers), greetMost)]
	for len(owed) > 0 {
		o := p.overlay.Load()
		if o == nil {
			return
		}
		sessions := o.tunnel.PeerStats()
		var still []wire.Peer
		for _, peer := range owed {
			s, known := sessions[peer.WireGuard]
			if !known || !s.LastHandshake.IsZero() {
				continue // forgotten since, or done
			}
			still = append(still, peer)
			try, done := context.WithTimeout(ctx, meetTry)
			if _, err := p.link.Ping(try, peer.ID); err == nil {
				o.tunnel.Greet(peer.WireGuard)
			}
			done()
		}
		owed = still
		select {
		case <-time.After(greetEvery):
		case <-ctx.Done():
			return
		}
	}
}
