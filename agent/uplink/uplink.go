// Package uplink is the caller's side of the agent protocol: enrol, renew, follow
// the map stream, report. An agent and a relay of its own both use it.
//
// The messages are wire's (wire/message.go), carried as JSON over one HTTP/2
// connection with mutual TLS 1.3. Only the organisation's root is believed: first
// by its fingerprint, afterwards pinned. Nothing is read without a limit, and a
// refusal comes back as *api.Problem, so that callers tell "no" from "not now".
// Why JSON: docs/decisions/0001.
package uplink

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"enclave/passage"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/svid"
)

var (
	// ErrUnreachable wraps every failure to get an answer at all.
	ErrUnreachable = errors.New("the control plane does not answer")
	// ErrSilent ends a stream that has missed three heartbeats.
	ErrSilent = errors.New("the map stream is silent")
	// ErrBadEndpoint is returned for an address or a fingerprint that cannot be one.
	ErrBadEndpoint = errors.New("the control plane is not named properly")
)

// callTimeout bounds a request that is not the stream.
const callTimeout = 20 * time.Second

// dialTimeout bounds reaching control at all, in either shape.
const dialTimeout = 15 * time.Second

// Endpoint is where the control plane is and how to get there.
type Endpoint struct {
	URL         string                                                            // https://host:port
	Fingerprint string                                                            // of the root: sha256:…
	Dial        func(ctx context.Context, network, addr string) (net.Conn, error) // nil is net.Dialer's
	Way         *passage.Way                                                      // remembers how it is reached; nil forgets
}

// Check reports what is wrong with the address or the fingerprint before anything
// is dialled.
func (e Endpoint) Check() error {
	u, err := url.Parse(e.URL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("%w: control address %.200q: want https://host:port", ErrBadEndpoint, e.URL)
	}
	hex, ok := strings.CutPrefix(e.Fingerprint, "sha256:")
	if !ok || len(hex) != 64 || strings.Trim(hex, "0123456789abcdef") != "" {
		return fmt.Errorf("%w: fingerprint %.80q: want sha256: and 64 hex digits", ErrBadEndpoint, e.Fingerprint)
	}
	return nil
}

// at is the address of a path; whether the endpoint was written with a final slash
// does not matter.
func (e Endpoint) at(path string) string { return strings.TrimRight(e.URL, "/") + path }

func (e Endpoint) transport(cfg *tls.Config) *http.Transport {
	cfg = cfg.Clone()
	cfg.NextProtos = []string{"h2", "http/1.1"}
	way := e.Way
	if way == nil {
		way = new(passage.Way)
	}
	dial := e.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return &http.Transport{
		DialTLSContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			return passage.DialTLS(ctx, dial, addr, cfg, way)
		},
		ResponseHeaderTimeout:  callTimeout,
		ForceAttemptHTTP2:      true,
		MaxResponseHeaderBytes: 64 << 10,
		HTTP2: &http.HTTP2Config{ // notice a dead connection under an open stream
			SendPingTimeout: 20 * time.Second,
			PingTimeout:     10 * time.Second,
		},
	}
}

// Enrol buys an identity. It believes whoever shows the root with the endpoint's
// fingerprint, and the answer must carry that same root.
func Enrol(ctx context.Context, e Endpoint, req wire.EnrolRequest) (*wire.EnrolResponse, error) {
	if err := e.Check(); err != nil {
		return nil, err
	}
	t := e.transport(svid.FirstContactConfig(e.Fingerprint, time.Now))
	defer t.CloseIdleConnections()
	var resp wire.EnrolResponse
	if err := call(ctx, t, e.at(wire.PathEnrol), req, &resp); err != nil {
		return nil, err
	}
	// That one and no other: whoever has control's listener, but not the CA, would else
	// bring a root of its own along.
	other := func(der []byte) bool { return svid.Fingerprint(der) != e.Fingerprint }
	if len(resp.Roots) == 0 || slices.ContainsFunc(resp.Roots, other) {
		return nil, fmt.Errorf("enrol: %w", svid.ErrFingerprint)
	}
	return &resp, nil
}

// Client speaks for one identity.
type Client struct {
	endpoint Endpoint
	t        *http.Transport
}

// New makes a client that believes trust and shows cert.
func New(e Endpoint, trust svid.Trust, cert svid.Source) *Client {
	cfg := svid.ClientConfig(trust, cert, svid.Control(trust.Org))
	return &Client{endpoint: e, t: e.transport(cfg)}
}

// Close drops the connection. The client can be used again; it dials anew.
func (c *Client) Close() { c.t.CloseIdleConnections() }

// Renew asks for a new SVID.
func (c *Client) Renew(ctx context.Context, req wire.RenewRequest) (*wire.RenewResponse, error) {
	var resp wire.RenewResponse
	if err := call(ctx, c.t, c.endpoint.at(wire.PathRenew), req, &resp); err != nil {
		return nil, fmt.Errorf("renew: %w", err)
	}
	return &resp, nil
}

// Report tells control what is applied and where the caller can be reached.
func (c *Client) Report(ctx context.Context, r wire.Report) error {
	if err := call(ctx, c.t, c.endpoint.at(wire.PathReport), r, nil); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// Move tells control where the relay that calls is reached now.
func (c *Client) Move(ctx context.Context, info wire.RelayInfo) error {
	if err := call(ctx, c.t, c.endpoint.at(wire.PathRelay), info, nil); err != nil {
		return fmt.Errorf("tell where this relay is reached: %w", err)
	}
	return nil
}

// Flows answers a question of control.
func (c *Client) Flows(ctx context.Context, r wire.FlowReport) error {
	if err := call(ctx, c.t, c.endpoint.at(wire.PathFlows), r, nil); err != nil {
		return fmt.Errorf("flows: %w", err)
	}
	return nil
}

// Record has a run's record kept.
func (c *Client) Record(ctx context.Context, r wire.RunRecord) error {
	if err := call(ctx, c.t, c.endpoint.at(wire.PathRecord), r, nil); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return nil
}

// Leave ends a run's identity.
func (c *Client) Leave(ctx context.Context) error {
	if err := call(ctx, c.t, c.endpoint.at(wire.PathLeave), struct{}{}, nil); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	return nil
}

// Stream follows the map stream and hands each message to each, until one of them
// fails or the server is silent for three beats. It never returns nil.
func (c *Client) Stream(ctx context.Context, beat time.Duration, witness int64, each func(*wire.Message) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(3*beat, func() { cancel(ErrSilent) })
	defer watchdog.Stop()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.endpoint.at(wire.PathStream)+fmt.Sprintf("?%s=%d", wire.QueryWitness, witness), nil)
	if err != nil {
		return err
	}
	resp, err := c.t.RoundTrip(req)
	if err != nil {
		return unreachable(ctx, c.endpoint.URL, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refusal(resp)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 0, 64<<10), wire.MaxMapMessage)
	for lines.Scan() {
		watchdog.Reset(3 * beat)
		if len(lines.Bytes()) == 0 {
			continue
		}
		m, err := wire.ParseMessage(lines.Bytes())
		if err != nil {
			return fmt.Errorf("map stream: %w", err)
		}
		if err := each(m); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return unreachable(ctx, c.endpoint.URL, err)
	}
	return fmt.Errorf("%w: the map stream ended", ErrUnreachable)
}

// call posts in and reads out; out may be nil.
func call(ctx context.Context, t *http.Transport, url string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := t.RoundTrip(req)
	if err != nil {
		return unreachable(ctx, url, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return refusal(resp)
	}
	if out == nil {
		return nil
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, wire.MaxRequestBody+1))
	if err != nil {
		return unreachable(ctx, url, err)
	}
	if len(raw) > wire.MaxRequestBody {
		return fmt.Errorf("answer longer than %d bytes", wire.MaxRequestBody)
	}
	return wire.Unmarshal(raw, out)
}

// maxSaid is how much of what a server says against something is passed on: it goes into
// logs, again with each attempt.
const maxSaid = 2 << 10

// refusal reads the problem a server answers with. What is no problem document, for
// instance the page of a proxy in between, is still reported with its status.
func refusal(resp *http.Response) error {
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	p := new(api.Problem)
	if json.Unmarshal(raw, p) != nil || p.Code == "" {
		p = &api.Problem{Status: resp.StatusCode, Title: resp.Status, Code: api.CodeTryAgain,
			Detail: "the answer is not from an Enclave control plane: " + resp.Status}
	}
	p.Status = resp.StatusCode
	p.Title, p.Detail = p.Title[:min(len(p.Title), maxSaid)], p.Detail[:min(len(p.Detail), maxSaid)]
	return p
}

// unreachable keeps errors about identity as they are: retrying does not mend a
// wrong root, and the sentence of svid says what is wrong.
func unreachable(ctx context.Context, url string, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, ErrSilent) {
		return ErrSilent
	}
	for _, known := range []error{svid.ErrFingerprint, svid.ErrUnknownRoot, svid.ErrWrongOrg, svid.ErrWrongPeer,
		svid.ErrExpired, svid.ErrNotYetValid, svid.ErrMalformed} {
		if errors.Is(err, known) {
			return err
		}
	}
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		return fmt.Errorf("%w (%v)", svid.ErrUnknownRoot, err)
	}
	return fmt.Errorf("%w at %s: %w", ErrUnreachable, url, err)
}
