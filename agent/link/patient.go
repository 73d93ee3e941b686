package link

import (
	"sync/atomic"
	"time"
)

// patience is how long a packet waits for room in a queue that is taken from.
const patience = 10 * time.Millisecond

// patient waits for room in a channel, but in vain only once: then nobody does until
// something was taken again. So what is stuck costs its senders one wait.
type patient struct{ stalled atomic.Bool }

func trySend(c chan<- *packet, pkt *packet) bool {
	select {
	case c <- pkt:
		return true
	default:
		return false
	}
}

// send waits until pkt is in c, and gives up when over is closed.
func (p *patient) send(c chan<- *packet, pkt *packet, over <-chan struct{}) bool {
	if p.stalled.Load() {
		return false
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case c <- pkt:
		return true
	case <-t.C:
		p.stalled.Store(true)
	case <-over:
	}
	return false
}

// taken says that there is room again. It is called for each batch that was taken.
func (p *patient) taken() {
	if p.stalled.Load() {
		p.stalled.Store(false)
	}
}
