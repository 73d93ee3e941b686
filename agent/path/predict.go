package path

import (
	"net/netip"
	"slices"
	"time"
)

// A NAT that maps by destination gives a pair a port that no STUN server has seen. Many
// such NATs count upwards, though, and then the ports that the servers saw tell where the
// next ones lie. Pings to those open our own filter for them, so that the peer's ping,
// which comes from one of them, is let in. Nothing is known of the answer: the guess is
// right when the peer is heard.
const (
	// MaxPredict bounds the guesses of one round.
	MaxPredict = 256

	// predictGap spaces them.
	predictGap = 5 * time.Millisecond

	// predictAt is when, in a round, guessing begins: the peer has been called by then.
	predictAt = 100 * time.Millisecond

	// countsUp is how far apart the ports of a NAT that counts may lie, in steps.
	countsUp = 32
)

// SetPrediction lets rounds guess up to n ports of a peer whose NAT maps by destination;
// 0, the default, guesses none. It is noise to everybody on the way, so it is asked for.
func (p *Peer) SetPrediction(n int) { p.predict = min(max(n, 0), MaxPredict) }

// guess plans the guesses of a round.
func (p *Peer) guess(now time.Time) {
	p.guesses = nil
	if p.predict == 0 || p.route != nil || p.nats[1] != "hard" || p.nats[0] == "hard" || p.nats[0] == "blocked" {
		return
	}
	var seen []netip.AddrPort
	for _, c := range p.cands {
		if a := c.addr.Addr(); c.from != 0 && a.Is4() && !a.IsPrivate() && !a.IsLoopback() {
			seen = append(seen, c.addr)
		}
	}
	p.guesses, p.guessAt = nextPorts(seen, p.predict), now.Add(predictAt)
}

// nextPorts continues the ports that were seen of one address, if they count up.
func nextPorts(seen []netip.AddrPort, n int) (out []netip.AddrPort) {
	slices.SortFunc(seen, netip.AddrPort.Compare)
	for i := 0; i < len(seen); {
		j, step := i+1, 0
		for ; j < len(seen) && seen[j].Addr() == seen[i].Addr(); j++ {
			if d := int(seen[j].Port()) - int(seen[j-1].Port()); d > 0 && (step == 0 || d < step) {
				step = d
			}
		}
		low, high := int(seen[i].Port()), int(seen[j-1].Port())
		if step > 0 && step <= countsUp && high-low <= countsUp*step {
			for k, left := 1, n-len(out); k <= left && high+k*step <= 65535; k++ {
				out = append(out, netip.AddrPortFrom(seen[i].Addr(), uint16(high+k*step)))
			}
		}
		i = j
	}
	return out[:min(len(out), n)]
}

// sendGuess sends the next guess when it is due.
func (p *Peer) sendGuess(now time.Time, out *Output) {
	if p.route != nil {
		p.guesses = nil
	}
	if len(p.guesses) == 0 || now.Before(p.guessAt) {
		return
	}
	out.Pings = append(out.Pings, Ping{To: p.guesses[0], Tx: p.newTx()})
	p.guesses, p.guessAt = p.guesses[1:], now.Add(predictGap)
}
