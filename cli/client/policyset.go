package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

// PolicySet returns the policy set in force, or that of a past revision; 0 is now.
func (c *Client) PolicySet(ctx context.Context, rev wire.Revision) (out wire.PolicySet, err error) {
	path := "/policyset"
	if rev != 0 {
		path += "?revision=" + strconv.FormatUint(uint64(rev), 10)
	}
	return out, c.call(ctx, http.MethodGet, path, nil, nil, &out)
}

// Apply makes a policy set the one in force, as one revision or none.
func (c *Client) Apply(ctx context.Context, a api.Apply) (out api.Applied, err error) {
	return out, c.call(ctx, http.MethodPost, "/policyset", nil, a, &out)
}

// Edit lets f change the policy set in force, and applies it if nobody has changed it
// meanwhile. With within, the change reverts unless it is confirmed in that time.
func (c *Client) Edit(ctx context.Context, within time.Duration, f func(*wire.PolicySet) error) (out api.Applied, err error) {
	last, err := c.LatestRevisions(ctx, 1) // first: a version may be too old, never too new
	if err != nil {
		return out, err
	}
	set, err := c.PolicySet(ctx, 0)
	if err != nil {
		return out, err
	}
	if err := f(&set); err != nil {
		return out, err
	}
	h := http.Header{}
	if len(last) > 0 {
		h.Set("If-Match", strconv.Quote(strconv.FormatUint(uint64(last[0].Revision), 10)))
	}
	return out, c.call(ctx, http.MethodPost, "/policyset", h, api.Apply{Set: set, ConfirmWithin: int(within / time.Second)}, &out)
}

// LatestRevisions returns the newest n revisions of the policy set, newest first. n is at
// most what one page holds.
func (c *Client) LatestRevisions(ctx context.Context, n int) ([]api.RevisionEntry, error) {
	var page api.Page[api.RevisionEntry]
	err := c.call(ctx, http.MethodGet, "/revisions?limit="+strconv.Itoa(n), nil, nil, &page)
	return page.Items, err
}

// Confirm keeps a change that would otherwise revert by itself.
func (c *Client) Confirm(ctx context.Context) (api.Changed, error) {
	return c.change(ctx, http.MethodPost, "/policyset/confirm", nil)
}

// Explain says why a flow passes or not.
func (c *Client) Explain(ctx context.Context, from, to string, proto wire.Proto, port uint16, at time.Time) (out api.Explanation, err error) {
	q := url.Values{"from": {from}, "to": {to}, "protocol": {proto.String()}}
	if port != 0 {
		q.Set("port", strconv.Itoa(int(port)))
	}
	setAt(q, at)
	return out, c.call(ctx, http.MethodGet, "/explain?"+q.Encode(), nil, nil, &out)
}

func setAt(q url.Values, at time.Time) {
	if !at.IsZero() {
		q.Set("at", at.Format(time.RFC3339))
	}
}

// Forecast lists what opens, closes and expires by itself.
func (c *Client) Forecast(ctx context.Context, days int) ([]api.Coming, error) {
	return list[api.Coming](ctx, c, "/forecast", url.Values{"days": {strconv.Itoa(days)}})
}

// Graph tells who reaches whom, among senders and receivers with these tags; an empty one
// is everybody.
func (c *Client) Graph(ctx context.Context, at time.Time, from, to wire.Tag) (out api.Graph, err error) {
	q := url.Values{}
	setAt(q, at)
	if from != "" {
		q.Set("from_tag", string(from))
	}
	if to != "" {
		q.Set("to_tag", string(to))
	}
	return out, c.call(ctx, http.MethodGet, "/graph?"+q.Encode(), nil, nil, &out)
}

// TagGraph tells what policies let the carriers of one tag open to those of another.
func (c *Client) TagGraph(ctx context.Context, at time.Time) (out api.TagGraph, err error) {
	q := url.Values{}
	setAt(q, at)
	return out, c.call(ctx, http.MethodGet, "/graph/tags?"+q.Encode(), nil, nil, &out)
}

// Tests returns the assertions kept with the policies.
func (c *Client) Tests(ctx context.Context) ([]wire.Assertion, error) {
	return list[wire.Assertion](ctx, c, "/tests", nil)
}

// RunTests judges assertions; nil are those kept with the policies.
func (c *Client) RunTests(ctx context.Context, tests []wire.Assertion) ([]api.TestResult, error) {
	var out api.Page[api.TestResult]
	var body any
	if tests != nil {
		body = map[string][]wire.Assertion{"tests": tests}
	}
	return out.Items, c.call(ctx, http.MethodPost, "/tests/run", nil, body, &out)
}

// Revisions lists the history of the policy set, newest first.
func (c *Client) Revisions(ctx context.Context) ([]api.RevisionEntry, error) {
	return list[api.RevisionEntry](ctx, c, "/revisions", nil)
}

// Compare tells what differs between two revisions of the policy set; to 0 is now.
func (c *Client) Compare(ctx context.Context, from, to wire.Revision) (out api.SetDiff, err error) {
	return out, c.call(ctx, http.MethodGet, fmt.Sprintf("/revisions/%d/diff?to=%d", from, to), nil, nil, &out)
}

// Restore makes the policy set of a past revision the one in force again.
func (c *Client) Restore(ctx context.Context, rev wire.Revision) (api.Changed, error) {
	return c.change(ctx, http.MethodPost, fmt.Sprintf("/revisions/%d/restore", rev), nil)
}

// Flows asks connected agents for their live flows.
func (c *Client) Flows(ctx context.Context) ([]api.LiveFlow, error) {
	return list[api.LiveFlow](ctx, c, "/flows", nil)
}

// Denied asks connected agents what their filters have refused of late.
func (c *Client) Denied(ctx context.Context) ([]api.Denied, error) {
	return list[api.Denied](ctx, c, "/flows/denied", nil)
}

// CutFlows ends live flows at both ends. A dry run answers like it, with no ends.
func (c *Client) CutFlows(ctx context.Context, in api.CutFlows) (out api.FlowsCut, err error) {
	return out, c.send(ctx, http.MethodPost, c.wish.query("/flows/cut"), nil, in, &out)
}

// Paths asks the agent of a system how it reaches its peers.
func (c *Client) Paths(ctx context.Context, system string) ([]api.PeerPath, error) {
	return list[api.PeerPath](ctx, c, "/systems"+seg(system)+"/peers", nil)
}

// Access tells what a system may open, and who may open what to it.
func (c *Client) Access(ctx context.Context, system string, at time.Time) (out api.SystemAccess, err error) {
	q := url.Values{}
	setAt(q, at)
	return out, c.call(ctx, http.MethodGet, "/systems"+seg(system)+"/access?"+q.Encode(), nil, nil, &out)
}
