package agent

import (
	"context"

	"enclave/agent/uplink"
	"enclave/wire"
)

// answerAsk tells control which flows live. It is for dry runs and for people who look:
// an answer that is lost, or refused, costs nothing.
func (a *Agent) answerAsk(ctx context.Context, c *uplink.Client, q *wire.Ask) {
	p := a.parts.Load()
	if p == nil || !q.Flows {
		return
	}
	r := wire.FlowReport{ID: q.ID, Flows: []wire.ReportedFlow{}}
	if o := p.overlay.Load(); o != nil {
		for _, f := range o.filter.Flows() {
			if len(r.Flows) == wire.MaxReportedFlows {
				r.More++
				continue
			}
			r.Flows = append(r.Flows, wire.ReportedFlow{Flow: f.Flow, Peer: f.Peer, Inbound: f.Inbound, Since: f.Since, Bytes: f.Bytes[0] + f.Bytes[1]})
		}
	}
	if err := c.Flows(ctx, r); err != nil {
		a.log.Debug("control did not take the answer to its question", "error", err)
	}
}
