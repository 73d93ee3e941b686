package demo

import (
	"context"
	"fmt"
	"slices"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

// settle is how long to watch for stragglers after a denial is in effect everywhere:
// longer than a packet takes across the simulated internet.
const settle = 15 * time.Millisecond

// latency measures how long a denied flow still delivers: from the API's answer to
// the last byte at the receiver, over many changes of a policy.
func (d *demo) latency(ctx context.Context) {
	d.section("From change to effect")
	d.check(fmt.Sprintf("%d times, a policy is disabled under a stream of datagrams", d.cfg.Changes), func() (string, error) {
		const name = "Metrics"
		p, err := d.API.CreatePolicy(ctx, wire.Policy{Name: name, Kind: wire.Direct, Enabled: true,
			SenderTags: []wire.Tag{"developers"}, ReceiverTags: []wire.Tag{"pods"}, ACLs: []wire.ACL{allow(wire.UDP, 9)}})
		if err != nil {
			return "", err
		}
		if err := d.applied(ctx, p.Version); err != nil {
			return "", err
		}
		defer d.change(ctx, func() (api.Changed, error) { return d.API.DeletePolicy(ctx, name) })
		stop, err := d.stream(ctx)
		if err != nil {
			return "", err
		}
		defer stop()
		lags := make([]time.Duration, 0, d.cfg.Changes)
		for i := range d.cfg.Changes {
			lag, err := d.denyOnce(ctx, name)
			if err != nil {
				return "", fmt.Errorf("change %d: %w", i+1, err)
			}
			lags = append(lags, lag)
		}
		slices.Sort(lags)
		return fmt.Sprintf("API answer to last denied byte: p50 %s, p99 %s, max %s",
			ms(quantile(lags, 0.5)), ms(quantile(lags, 0.99)), ms(lags[len(lags)-1])), nil
	})
}

// stream sends a datagram to the sink each millisecond until stop.
func (d *demo) stream(ctx context.Context) (stop func(), err error) {
	c, err := d.ana.DialContext(ctx, "udp", "pod-1.enclave:9")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer c.Close()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_, _ = c.Write([]byte("metric")) // denied half of the time, which is the point
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { cancel(); <-done }, nil
}

// denyOnce enables the policy, waits until datagrams arrive, disables it and returns
// how long after the API's answer the last one came.
func (d *demo) denyOnce(ctx context.Context, name string) (time.Duration, error) {
	if _, err := d.change(ctx, func() (api.Changed, error) { return d.API.PolicyDo(ctx, name, "enable") }); err != nil {
		return 0, err
	}
	_, before := d.sink.seen()
	err := eventually(ctx, 5*time.Second, "nothing arrives though it is allowed", func() bool {
		_, n := d.sink.seen()
		return n > before+2
	})
	if err != nil {
		return 0, err
	}
	answered, err := d.change(ctx, func() (api.Changed, error) { return d.API.PolicyDo(ctx, name, "disable") })
	if err != nil {
		return 0, err
	}
	time.Sleep(settle)
	last, n := d.sink.seen()
	time.Sleep(settle)
	if _, later := d.sink.seen(); later != n {
		return 0, fmt.Errorf("%d datagrams came after the denial was in effect", later-n)
	}
	return max(last.Sub(answered), 0), nil
}

// quantile returns the q-quantile of sorted values.
func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
