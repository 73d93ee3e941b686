package agent

import (
	"context"
	"time"
)

const (
	greetEvery = time.Second
	greetFor   = 30 * time.Second
	// greetMost bounds how many peers are greeted: in a large mesh the others find out
	// when they next have something to say.
	greetMost = 64
)

// greet begins sessions with the peers of an agent that was started again. Theirs with
// us is older than that: they send into it, nobody here can decrypt it, and WireGuard
// on their side takes 15 s to notice (section 6.1 of its paper). A handshake from here
// replaces it. The first may go astray while they still send to where we were, so it
// is repeated until there is a session.
func (a *Agent) greet(ctx context.Context, p *parts) {
	ctx, cancel := context.WithTimeout(ctx, greetFor)
	defer cancel()
	for {
		if o := p.overlay.Load(); o != nil {
			sessions := o.tunnel.PeerStats()
			peers := a.view.Load().peers
			for _, peer := range peers[:min(len(peers), greetMost)] {
				if s, known := sessions[peer.WireGuard]; !known || !s.LastHandshake.IsZero() {
					continue
				}
				try, done := context.WithTimeout(ctx, meetTry)
				if _, err := p.link.Ping(try, peer.ID); err == nil {
					o.tunnel.Greet(peer.WireGuard)
				}
				done()
			}
		}
		select {
		case <-time.After(greetEvery):
		case <-ctx.Done():
			return
		}
	}
}
