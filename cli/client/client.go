// Package client calls the administration API: one method a verb, in the shapes of
// wire/api.
//
// It believes the organisation's root by its fingerprint, as an agent does at first
// contact, or the system's roots where the API stands behind a public certificate.
// The token travels in a header and nowhere else. Errors of the server come back as
// *api.Problem with their code; everything else is about reaching it.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/svid"
)

// ErrUnreachable wraps every failure to get an answer from the server.
var ErrUnreachable = errors.New("the API does not answer")

// ErrUntrusted is returned where the server shows an identity that nothing vouches for:
// the API of an organisation, and no fingerprint of its root to know it by.
var ErrUntrusted = errors.New("nothing vouches for the server that answers")

// ErrScheme is returned where the server speaks TLS and the address does not, or the other
// way round.
var ErrScheme = errors.New("the address has the wrong scheme")

// ErrBadAddress is returned for an address that cannot be the API's.
var ErrBadAddress = errors.New("want https://host:port")

// ErrTooLong is returned for names and filters that no request has room for. A server
// ends the whole connection over one.
var ErrTooLong = errors.New("the names, filters and reasons of one request are too long")

// maxPath bounds the address of a request, well inside the header that a server reads.
const maxPath = 32 << 10

// maxAnswer bounds what one answer may be.
const maxAnswer = 64 << 20

// Config says where the API is and who calls.
type Config struct {
	URL         string // https://host:port, or http:// on loopback
	Token       string
	Fingerprint string // of the organisation's root; empty trusts the system's roots
	Dial        func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Client calls the API.
type Client struct {
	base  string
	token string
	http  *http.Client
	wish  Wish
}

// Wish is what a caller asks of changes besides the change.
type Wish struct {
	DryRun bool     // change nothing; the change answers with a *Trial
	Force  []string // names of kept tests that the change may break
	Reason string   // for the activity log
}

// Trial is what a dry run comes to, in place of the answer of a change.
type Trial struct{ Impact api.Impact }

func (*Trial) Error() string { return "a dry run: nothing was changed" }

// With returns a client whose changes carry w.
func (c *Client) With(w Wish) *Client {
	out := *c
	out.wish = w
	return &out
}

// query adds the wish to the path of a change.
func (w *Wish) query(path string) string {
	q := url.Values{}
	if w.DryRun {
		q.Set("dry_run", "true")
	}
	if len(w.Force) > 0 {
		q["force"] = w.Force
	}
	if w.Reason != "" {
		q.Set("reason", w.Reason)
	}
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

// New makes a client; it dials nothing yet.
func New(cfg Config) (*Client, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, fmt.Errorf("API address %.200q: %w", cfg.URL, ErrBadAddress)
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "http" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("API address %.200q: %w: plain http is for loopback addresses only, or the token could be read on the way", cfg.URL, ErrBadAddress)
	}
	t := &http.Transport{DialContext: cfg.Dial, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13}}
	if cfg.Fingerprint != "" {
		t.TLSClientConfig = svid.FirstContactConfig(cfg.Fingerprint, time.Now)
	}
	return &Client{base: strings.TrimSuffix(cfg.URL, "/") + "/api/v1", token: cfg.Token, http: &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// call sends in, if any, and reads out, if any.
func (c *Client) call(ctx context.Context, method, path string, header http.Header, in, out any) error {
	trial := new(Trial)
	if method != http.MethodGet {
		if path = c.wish.query(path); c.wish.DryRun {
			out = &trial.Impact
		}
	}
	if err := c.send(ctx, method, path, header, in, out); err != nil {
		return err
	}
	if out == any(&trial.Impact) {
		return trial
	}
	return nil
}

func (c *Client) send(ctx context.Context, method, path string, header http.Header, in, out any) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	req, err := c.request(ctx, method, path, body)
	if err != nil {
		return err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return unreachable(c.base, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return unreachable(c.base, err)
	}
	if resp.StatusCode/100 != 2 {
		p := new(api.Problem)
		if json.Unmarshal(raw, p) != nil || p.Code == "" {
			if bytes.HasPrefix(raw, []byte(wantsTLS)) {
				return otherScheme(c.base)
			}
			return fmt.Errorf("%w: %s answered %s, which is not an Enclave API", ErrUnreachable, c.base, resp.Status)
		}
		p.Status = resp.StatusCode
		return p
	}
	if out == nil || len(raw) == 0 {
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("answer of %s %s: %w", method, path, err)
	}
	return nil
}

// request makes a request in the caller's name.
func (c *Client) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLong, len(path), maxPath)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err == nil {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	return req, err
}

// unreachable keeps what is wrong with an identity apart from a dead line.
func unreachable(base string, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, svid.ErrFingerprint) || errors.Is(err, svid.ErrNotYetValid) || errors.Is(err, svid.ErrExpired) {
		return err
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		return otherScheme(base)
	}
	if unknown := new(tls.CertificateVerificationError); errors.As(err, &unknown) {
		return fmt.Errorf("%w at %s: %w", ErrUntrusted, strings.TrimSuffix(base, "/api/v1"), err)
	}
	return fmt.Errorf("%w at %s: %w", ErrUnreachable, strings.TrimSuffix(base, "/api/v1"), err)
}

// wantsTLS is how a server of package net/http answers who does not speak TLS.
const wantsTLS = "Client sent an HTTP request to an HTTPS server"

// otherScheme says which address was meant.
func otherScheme(base string) error {
	at := strings.TrimSuffix(base, "/api/v1")
	if host, plain := strings.CutPrefix(at, "http://"); plain {
		return fmt.Errorf("%w: the server at %s speaks TLS: want https://%s", ErrScheme, host, host)
	}
	host := strings.TrimPrefix(at, "https://")
	return fmt.Errorf("%w: the server at %s does not speak TLS; only one on loopback is called without: http://%s", ErrScheme, host, host)
}

// list reads every page.
func list[T any](ctx context.Context, c *Client, path string, query url.Values) ([]T, error) {
	all := []T{} // never null in JSON
	if query == nil {
		query = url.Values{}
	}
	query.Set("limit", "200")
	for {
		var page api.Page[T]
		if err := c.call(ctx, http.MethodGet, path+"?"+query.Encode(), nil, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.Next == "" {
			return all, nil
		}
		query.Set("after", page.Next)
	}
}

// change sends a change and returns the revision it made.
func (c *Client) change(ctx context.Context, method, path string, in any) (api.Changed, error) {
	var out api.Changed
	return out, c.call(ctx, method, path, nil, in, &out)
}

func seg(s string) string { return "/" + url.PathEscape(s) }

// Systems lists systems; query may hold search, tag and state.
func (c *Client) Systems(ctx context.Context, query url.Values) ([]api.System, error) {
	return list[api.System](ctx, c, "/systems", query)
}

// System returns one system by ID or unambiguous name.
func (c *Client) System(ctx context.Context, name string) (out api.System, err error) {
	return out, c.call(ctx, http.MethodGet, "/systems"+seg(name), nil, nil, &out)
}

// SystemDo approves, enables, disables or revokes a system.
func (c *Client) SystemDo(ctx context.Context, name, verb string) (api.Changed, error) {
	return c.change(ctx, http.MethodPost, "/systems"+seg(name)+"/"+verb, nil)
}

// UpdateSystem changes a system's name, notes or expiry; its Version is the revision
// that the change made.
func (c *Client) UpdateSystem(ctx context.Context, name string, u api.SystemUpdate) (out api.System, err error) {
	return out, c.call(ctx, http.MethodPatch, "/systems"+seg(name), nil, u, &out)
}

// DeleteSystem removes a system and its identity.
func (c *Client) DeleteSystem(ctx context.Context, name string) (api.Changed, error) {
	return c.change(ctx, http.MethodDelete, "/systems"+seg(name), nil)
}

// SetTags adds and removes tags of a system in one revision.
func (c *Client) SetTags(ctx context.Context, name string, add, remove []wire.Tag) (api.Changed, error) {
	return c.change(ctx, http.MethodPost, "/systems"+seg(name)+"/tags", map[string][]wire.Tag{"add": add, "remove": remove})
}

// SetRoutes adds and removes subnets that a system may carry as a gateway, in one revision.
func (c *Client) SetRoutes(ctx context.Context, name string, add []wire.Route, remove []string) (api.Changed, error) {
	type route struct {
		Subnet string `json:"subnet"`
		As     string `json:"as,omitempty"`
	}
	body := struct {
		Add    []route  `json:"add,omitempty"`
		Remove []string `json:"remove,omitempty"`
	}{Remove: remove}
	for _, r := range add {
		one := route{Subnet: r.Subnet.String()}
		if r.As.IsValid() {
			one.As = r.As.String()
		}
		body.Add = append(body.Add, one)
	}
	return c.change(ctx, http.MethodPost, "/systems"+seg(name)+"/routes", body)
}

// SetTrust marks a requirement as met by a system until an instant; zero is for as
// long as nobody takes it away.
func (c *Client) SetTrust(ctx context.Context, name, requirement string, until time.Time, claims map[string][]string) (api.Changed, error) {
	body := map[string]any{}
	if len(claims) > 0 {
		body["claims"] = claims
	}
	if !until.IsZero() {
		body["until"] = until
	}
	return c.change(ctx, http.MethodPut, "/systems"+seg(name)+"/trust"+seg(requirement), body)
}

// DropTrust takes such a mark away.
func (c *Client) DropTrust(ctx context.Context, name, requirement string) (api.Changed, error) {
	return c.change(ctx, http.MethodDelete, "/systems"+seg(name)+"/trust"+seg(requirement), nil)
}

// AddPeer lets a system connect to another; it takes both sides and no tags.
func (c *Client) AddPeer(ctx context.Context, name, other string) (api.Changed, error) {
	return c.change(ctx, http.MethodPut, "/systems"+seg(name)+"/adds"+seg(other), nil)
}

// RemovePeer takes that back.
func (c *Client) RemovePeer(ctx context.Context, name, other string) (api.Changed, error) {
	return c.change(ctx, http.MethodDelete, "/systems"+seg(name)+"/adds"+seg(other), nil)
}

// SetTag keeps a tag and sets what it takes to count.
func (c *Client) SetTag(ctx context.Context, name string, trust []string, notes string) (api.Changed, error) {
	if trust == nil {
		trust = []string{}
	}
	return c.change(ctx, http.MethodPut, "/tags"+seg(name), map[string]any{"trust": trust, "notes": notes})
}

// RenameTag renames a tag wherever it stands.
func (c *Client) RenameTag(ctx context.Context, from, to string) (api.Changed, error) {
	return c.change(ctx, http.MethodPost, "/tags"+seg(from)+"/rename", map[string]string{"name": to})
}

// Requirements lists trust requirements.
func (c *Client) Requirements(ctx context.Context) ([]api.Requirement, error) {
	return list[api.Requirement](ctx, c, "/requirements", nil)
}

// SetRequirement creates or replaces a trust requirement.
func (c *Client) SetRequirement(ctx context.Context, r wire.Requirement) (api.Changed, error) {
	var out api.Requirement
	err := c.call(ctx, http.MethodPut, "/requirements"+seg(r.ID), nil, r, &out)
	return api.Changed{Revision: out.Version}, err
}

// DeleteRequirement removes a trust requirement that nothing asks for.
func (c *Client) DeleteRequirement(ctx context.Context, id string) (api.Changed, error) {
	return c.change(ctx, http.MethodDelete, "/requirements"+seg(id), nil)
}

// Tags lists tags.
func (c *Client) Tags(ctx context.Context) ([]api.Tag, error) {
	return list[api.Tag](ctx, c, "/tags", nil)
}

// Keys lists enrolment keys.
func (c *Client) Keys(ctx context.Context) ([]api.Key, error) {
	return list[api.Key](ctx, c, "/keys", nil)
}

// CreateKey makes an enrolment key; the answer holds its secret, this once.
func (c *Client) CreateKey(ctx context.Context, k api.KeyCreate) (out api.KeyCreated, err error) {
	return out, c.call(ctx, http.MethodPost, "/keys", nil, k, &out)
}

// KeyDo enables or disables an enrolment key.
func (c *Client) KeyDo(ctx context.Context, id, verb string) (api.Changed, error) {
	return c.change(ctx, http.MethodPost, "/keys"+seg(id)+"/"+verb, nil)
}

// DeleteKey removes an enrolment key.
func (c *Client) DeleteKey(ctx context.Context, id string) (api.Changed, error) {
	return c.change(ctx, http.MethodDelete, "/keys"+seg(id), nil)
}

// Tokens lists API tokens.
func (c *Client) Tokens(ctx context.Context) ([]api.Token, error) {
	return list[api.Token](ctx, c, "/tokens", nil)
}

// CreateToken makes an API token; the answer holds its secret, this once.
func (c *Client) CreateToken(ctx context.Context, t api.TokenCreate) (out api.TokenCreated, err error) {
	return out, c.call(ctx, http.MethodPost, "/tokens", nil, t, &out)
}

// RevokeToken ends an API token at once.
func (c *Client) RevokeToken(ctx context.Context, name string) (api.Changed, error) {
	return c.change(ctx, http.MethodDelete, "/tokens"+seg(name), nil)
}

// Policies lists policies with their state.
func (c *Client) Policies(ctx context.Context) ([]api.Policy, error) {
	return list[api.Policy](ctx, c, "/policies", nil)
}

// Policy returns one policy by ID or name.
func (c *Client) Policy(ctx context.Context, name string) (out api.Policy, err error) {
	return out, c.call(ctx, http.MethodGet, "/policies"+seg(name), nil, nil, &out)
}

// CreatePolicy makes a policy; its Version is the revision that brings it.
func (c *Client) CreatePolicy(ctx context.Context, p wire.Policy) (out api.Policy, err error) {
	return out, c.call(ctx, http.MethodPost, "/policies", nil, p, &out)
}

// UpdatePolicy replaces a policy if it is still at version; zero does not check.
func (c *Client) UpdatePolicy(ctx context.Context, name string, p wire.Policy, version wire.Revision) (out api.Policy, err error) {
	h := http.Header{}
	if version != 0 {
		h.Set("If-Match", strconv.Quote(strconv.FormatUint(uint64(version), 10)))
	}
	return out, c.call(ctx, http.MethodPut, "/policies"+seg(name), h, p, &out)
}

// PolicyDo enables or disables a policy.
func (c *Client) PolicyDo(ctx context.Context, name, verb string) (api.Changed, error) {
	return c.change(ctx, http.MethodPost, "/policies"+seg(name)+"/"+verb, nil)
}

// DeletePolicy removes a policy.
func (c *Client) DeletePolicy(ctx context.Context, name string) (api.Changed, error) {
	return c.change(ctx, http.MethodDelete, "/policies"+seg(name), nil)
}

// Relays lists relays.
func (c *Client) Relays(ctx context.Context) ([]api.Relay, error) {
	return list[api.Relay](ctx, c, "/relays", nil)
}

// DeleteRelay removes a relay and its identity.
func (c *Client) DeleteRelay(ctx context.Context, id string) (api.Changed, error) {
	return c.change(ctx, http.MethodDelete, "/relays"+seg(id), nil)
}

// Revision tells where the organisation is.
func (c *Client) Revision(ctx context.Context) (out api.RevisionStatus, err error) {
	return out, c.call(ctx, http.MethodGet, "/revision", nil, nil, &out)
}

// WhoAmI tells whose token the client has.
func (c *Client) WhoAmI(ctx context.Context) (out api.WhoAmI, err error) {
	return out, c.call(ctx, http.MethodGet, "/whoami", nil, nil, &out)
}

// WaitApplied returns once every affected connected system has acknowledged rev, or
// with the last status when ctx ends.
func (c *Client) WaitApplied(ctx context.Context, rev wire.Revision) (api.RevisionStatus, error) {
	for {
		var out api.RevisionStatus
		path := fmt.Sprintf("/revision?applied=%d&timeout=10s", rev)
		if err := c.call(ctx, http.MethodGet, path, nil, nil, &out); err != nil || out.Applied {
			return out, err
		}
		if err := ctx.Err(); err != nil {
			return out, err
		}
	}
}

// Activity lists the activity log after a sequence number, oldest first.
func (c *Client) Activity(ctx context.Context, after int64) ([]api.Activity, error) {
	return list[api.Activity](ctx, c, "/activity", url.Values{"after": {strconv.FormatInt(after, 10)}})
}
