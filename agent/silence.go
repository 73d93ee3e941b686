package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"enclave/wire"
)

// silence is how long a dial waits for an answer before it asks the peer itself, and
// silenceAsked how long for that. A relay that dies is left within 4 s and a control plane
// with its relay that starts again is back within 11, so who still says nothing is not there,
// and the person at the proxy hears it long before a TCP dial gives up by itself.
const (
	silence      = 12 * time.Second
	silenceAsked = 3 * time.Second
)

var errSilent = errors.New("the peer says nothing")

// unlessSilent dials, and ends that with errSilent where nothing answers and ask has none
// either. A service that keeps a caller waiting on a peer that is there has all of ctx.
func unlessSilent(ctx context.Context, ask func(context.Context) error, dial func(context.Context) (net.Conn, error)) (net.Conn, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	asked := make(chan struct{})
	watch := time.AfterFunc(silence, func() {
		defer close(asked)
		short, stop := context.WithTimeout(ctx, silenceAsked)
		defer stop()
		if ask(short) != nil && ctx.Err() == nil {
			cancel(errSilent)
		}
	})
	c, err := dial(ctx)
	if err != nil && context.Cause(ctx) == errSilent {
		err = errSilent
	}
	cancel(nil)
	if !watch.Stop() {
		<-asked
	}
	return c, err
}

// probe asks a peer by its path, below WireGuard, until it answers or ctx ends.
func (a *Agent) probe(ctx context.Context, id wire.SystemID) error {
	p := a.parts.Load()
	if p == nil {
		return ErrNotReady
	}
	_, err := p.link.Ping(ctx, id)
	return err
}

// lastHeard says when a peer sent data last, for people.
func (p *parts) lastHeard(id wire.SystemID, name string) error {
	for _, s := range p.link.Status() {
		if s.ID == id && !s.Seen.IsZero() {
			return fmt.Errorf("%s does not answer, and was last heard at %s", name, s.Seen.UTC().Format(time.RFC3339))
		}
	}
	return fmt.Errorf("%s does not answer, and was not heard yet", name)
}
