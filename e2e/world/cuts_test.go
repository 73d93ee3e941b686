package world

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"enclave/agent"
	"enclave/cli/client"
	"enclave/e2e/natlab"
	"enclave/wire"
	"enclave/wire/api"
)

// cutLog keeps what agents log of flows that they cut: host and cause.
type cutLog struct {
	slog.Handler
	host string
	kept *keptCuts
}

type keptCuts struct {
	mu   sync.Mutex // guards list
	list []struct{ host, cause string }
}

func (l cutLog) Enabled(context.Context, slog.Level) bool { return true }
func (l cutLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		if a.Key == "host" {
			l.host = a.Value.String()
		}
	}
	return l
}
func (l cutLog) Handle(_ context.Context, r slog.Record) error {
	if r.Message != "flow cut" {
		return nil
	}
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "cause" {
			l.kept.mu.Lock()
			l.kept.list = append(l.kept.list, struct{ host, cause string }{l.host, a.Value.String()})
			l.kept.mu.Unlock()
		}
		return true
	})
	return nil
}

// said reports whether a host has logged a cut with this cause.
func (k *keptCuts) said(host, cause string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.ContainsFunc(k.list, func(c struct{ host, cause string }) bool {
		return c.host == host && strings.Contains(c.cause, cause)
	})
}

// stage is a world with a sender and a receiver, made anew for each cause so that what one
// leaves behind decides nothing about another.
type stage struct {
	*World
	t             *testing.T
	ctx           context.Context
	laptop, web   *Agent
	policy        api.Policy
	logged        keptCuts
	client, serve net.Conn
	ends          chan error // the first that each end was told
}

// newStage introduces laptop to web under a policy that edit has changed, and starts a
// flow between them on which both send in turn for as long as it lives.
func newStage(t *testing.T, edit func(s *stage, p *wire.Policy)) *stage {
	t.Helper()
	s := &stage{t: t, ends: make(chan error, 2)}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	s.ctx = ctx
	lab := natlab.New(natlab.Config{Seed: 7}).Start()
	t.Cleanup(func() { lab.Close() })
	w, err := New(ctx, Config{Lab: lab, Dir: t.TempDir(), Logger: slog.New(cutLog{Handler: slog.DiscardHandler, kept: &s.logged}), Beat: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	s.World = w
	for _, a := range []struct {
		at  **Agent
		tag wire.Tag
	}{{&s.laptop, "laptops"}, {&s.web, "servers"}} {
		key, err := s.API.CreateKey(ctx, api.KeyCreate{Name: string(a.tag), Approval: "automatic", Tags: []wire.Tag{a.tag}})
		s.must(err)
		*a.at, err = s.Agent(ctx, strings.TrimSuffix(string(a.tag), "s"), lab.Internet(), key.Secret)
		s.must(err)
	}
	s.until("both agents run", func() bool {
		return s.laptop.Status().State == api.AgentRunning && s.web.Status().State == api.AgentRunning
	})
	p := wire.Policy{Name: "p", Kind: wire.Direct, Enabled: true, SenderTags: []wire.Tag{"laptops"}, ReceiverTags: []wire.Tag{"servers"},
		ACLs: []wire.ACL{{Proto: wire.TCP, Ports: wire.Ports{{Lo: 80, Hi: 80}}}}}
	if edit != nil {
		edit(s, &p)
	}
	s.policy, err = s.API.CreatePolicy(ctx, p)
	s.must(err)
	_, err = s.API.WaitApplied(ctx, s.policy.Version)
	s.must(err)
	s.flow()
	return s
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) until(what string, ok func() bool) {
	s.t.Helper()
	for !ok() {
		select {
		case <-time.After(5 * time.Millisecond): // TCP stacks run on the wall clock: there is no event
		case <-s.ctx.Done():
			s.t.Fatalf("never: %s; cuts %v", what, s.logged.list)
		}
	}
}

// flow opens the connection and returns when both ends have heard the other.
func (s *stage) flow() {
	s.t.Helper()
	l, err := s.web.Listen(s.ctx, 80)
	s.must(err)
	s.t.Cleanup(func() { l.Close() })
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			accepted <- c
		}
	}()
	s.client, err = s.laptop.DialContext(s.ctx, "tcp", "server.enclave:80")
	s.must(err)
	s.serve = <-accepted
	// One goroutine for each end: a stack tells a reset once, to whoever asks first, and
	// the next to ask reads a clean end.
	heard := make(chan struct{}, 2)
	for i, c := range []net.Conn{s.client, s.serve} {
		s.t.Cleanup(func() { c.Close() })
		go func() {
			buf := make([]byte, 500)
			for round := 0; ; round++ {
				if i == 0 || round > 0 {
					if _, err := c.Write(buf); err != nil {
						s.ends <- err
						return
					}
				}
				if _, err := io.ReadFull(c, buf); err != nil {
					s.ends <- err
					return
				}
				if round == 0 {
					heard <- struct{}{}
				}
				time.Sleep(2 * time.Millisecond)
			}
		}()
	}
	<-heard
	<-heard
}

// cut waits until both ends' sockets were reset and both hosts have logged why.
func (s *stage) cut(causes ...string) {
	s.t.Helper()
	for range 2 {
		select {
		case err := <-s.ends:
			if !errors.Is(err, syscall.ECONNRESET) {
				s.t.Errorf("an end was told %v, want a reset", err)
			}
		case <-s.ctx.Done():
			s.t.Fatalf("the flow lives on; cuts %v", s.logged.list)
		}
	}
	for i, host := range []string{"laptop", "server"} {
		s.until(host+" logs "+causes[i%len(causes)], func() bool { return s.logged.said(host, causes[i%len(causes)]) })
	}
}

func id(a *Agent) string { return string(a.Status().Self.ID) }

// TestEveryEndCutsLiveFlows is the list of causes that end a flow: each in both directions,
// with resets at both ends and its cause in both logs.
func TestEveryEndCutsLiveFlows(t *testing.T) {
	if testing.Short() {
		t.Skip("TCP over the simulated internet needs the wall clock")
	}
	t.Parallel() // hours end at a full minute, and another test waits for that as well
	// soon sets an end, and a later one where this machine is slower than that: an end that has
	// passed is refused.
	soon := func(set func(at time.Time) error) error {
		for left := 3 * time.Second; ; left *= 2 {
			at := time.Now().Add(left)
			if err := set(at); err == nil || time.Now().Before(at) || left > time.Minute {
				return err
			}
		}
	}
	trusted := func(s *stage, p *wire.Policy) {
		p.SenderTrust = []string{"mfa"}
		_, err := s.API.SetTrust(s.ctx, id(s.laptop), "mfa", time.Time{}, nil)
		s.must(err)
	}
	system := func(a func(*stage) *Agent, verb string) func(*stage) error {
		return func(s *stage) error {
			_, err := s.API.SystemDo(s.ctx, id(a(s)), verb)
			return err
		}
	}
	expire := func(a func(*stage) *Agent) func(*stage) error {
		return func(s *stage) error {
			return soon(func(at time.Time) error {
				_, err := s.API.UpdateSystem(s.ctx, id(a(s)), api.SystemUpdate{ExpiresAt: &at})
				return err
			})
		}
	}
	sender := func(s *stage) *Agent { return s.laptop }
	receiver := func(s *stage) *Agent { return s.web }
	update := func(edit func(p *wire.Policy)) func(*stage) error {
		return func(s *stage) error {
			p := s.policy.Policy
			edit(&p)
			_, err := s.API.UpdatePolicy(s.ctx, "p", p, s.policy.Version)
			return err
		}
	}
	for _, c := range []struct {
		name   string
		before func(*stage, *wire.Policy)
		end    func(*stage) error
		causes []string // of laptop and server; one for both
	}{
		{"policy disabled", nil, func(s *stage) error { _, err := s.API.PolicyDo(s.ctx, "p", "disable"); return err }, []string{`policy.disable "p"`}},
		{"policy deleted", nil, func(s *stage) error { _, err := s.API.DeletePolicy(s.ctx, "p"); return err }, []string{`policy.delete "p"`}},
		{"policy expired", nil, func(s *stage) error {
			return soon(func(at time.Time) error { return update(func(p *wire.Policy) { p.ExpiresAt = &at })(s) })
		}, []string{`policy "p" expired`}},
		{"hours ended", func(_ *stage, p *wire.Policy) {
			end := time.Now().UTC().Add(20 * time.Second).Truncate(time.Minute).Add(time.Minute)
			days := []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
			p.ActiveHours = wire.Windows{{Zone: "UTC", Days: days, Start: end.Add(-time.Hour).Format("15:04"), End: end.Format("15:04")}}
		}, nil, []string{`hours of policy "p" ended`}},
		{"trust lost", trusted, func(s *stage) error { _, err := s.API.DropTrust(s.ctx, id(s.laptop), "mfa"); return err }, []string{`system.trust "laptop"`}},
		{"trust over", trusted, func(s *stage) error {
			return soon(func(at time.Time) error {
				_, err := s.API.SetTrust(s.ctx, id(s.laptop), "mfa", at, nil)
				return err
			})
		}, []string{`trust lapsed, which policy "p" requires`}},
		{"tag removed from the sender", nil, func(s *stage) error {
			_, err := s.API.SetTags(s.ctx, id(s.laptop), nil, []wire.Tag{"laptops"})
			return err
		}, []string{`system.tag "laptop"`}},
		{"tag of the receiver changed for another", nil, func(s *stage) error {
			_, err := s.API.SetTags(s.ctx, id(s.web), []wire.Tag{"retired"}, []wire.Tag{"servers"})
			return err
		}, []string{`system.tag "server"`}},
		{"policy renamed to another tag", nil, update(func(p *wire.Policy) { p.SenderTags = []wire.Tag{"desktops"} }), []string{`policy.update "p"`}},
		{"rule narrowed", nil, update(func(p *wire.Policy) { p.ACLs[0].Ports = wire.Ports{{Lo: 81, Hi: 90}} }), []string{`policy.update "p"`}},
		{"sender disabled", nil, system(sender, "disable"), []string{`system.disable "laptop"`}},
		{"receiver disabled", nil, system(receiver, "disable"), []string{`system.disable "server"`}},
		{"sender expired", nil, expire(sender), []string{`system "laptop" expired`}},
		{"receiver expired", nil, expire(receiver), []string{`system "server" expired`}},
		{"sender revoked", nil, system(sender, "revoke"), []string{"revoked", `system.revoke "laptop"`}},
		{"receiver revoked", nil, system(receiver, "revoke"), []string{`system.revoke "server"`, "revoked"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, c.before)
			if c.end != nil {
				s.must(c.end(s))
			}
			s.cut(c.causes...)
		})
	}
}

// TestTimedEndsNeedNoControl stops control before the policy expires.
func TestTimedEndsNeedNoControl(t *testing.T) {
	if testing.Short() {
		t.Skip("TCP over the simulated internet needs the wall clock")
	}
	t.Parallel()
	s := newStage(t, nil)
	for left := 8 * time.Second; ; left *= 2 { // the end is set once all runs, and again while this machine is slower than that
		p := s.policy.Policy
		at := time.Now().Add(left)
		p.ExpiresAt = &at
		var err error
		s.policy, err = s.API.UpdatePolicy(s.ctx, "p", p, s.policy.Version)
		s.must(err)
		_, err = s.API.WaitApplied(s.ctx, s.policy.Version)
		s.must(err)
		if time.Until(at) > left/2 {
			break
		}
		if time.Until(at) <= 0 {
			t.Skipf("this machine takes longer than %s to hear of a change", left)
		}
	}
	s.must(s.StopControl())
	flows := s.web.Status().Flows
	if !time.Now().Before(*s.policy.ExpiresAt) {
		t.Skip("this machine takes longer to stop control than the policy has left")
	}
	if len(flows) == 0 {
		t.Error("the flow has ended before its time")
	}
	for _, f := range flows {
		if f.Dst.Port() == 80 && (f.PolicyName != "p" || f.Ends != wire.EndsPolicy || !f.Until.Equal(*s.policy.ExpiresAt)) {
			t.Errorf("the flow %+v does not say what ends it", f)
		}
	}
	s.cut(`policy "p" expired`)
	_, err := s.laptop.DialContext(s.ctx, "tcp", "server.enclave:80")
	if err == nil || !strings.Contains(err.Error(), `: policy "p" expired `) {
		t.Errorf("a dial after it: %v", err)
	}
	if late := time.Since(*s.policy.ExpiresAt); late > 30*time.Second {
		t.Errorf("cut %s after its time", late)
	}
}

// TestAnotherPolicyKeepsTheFlow takes the policy away that let the flow in while a second
// one allows it, too; and renames its tag, which stands for the same wherever it stands.
func TestAnotherPolicyKeepsTheFlow(t *testing.T) {
	if testing.Short() {
		t.Skip("TCP over the simulated internet needs the wall clock")
	}
	t.Parallel()
	s := newStage(t, nil)
	second := s.policy.Policy
	second.ID, second.Name, second.ACLs = "", "second", []wire.ACL{{Proto: wire.UDP}, {Proto: wire.TCP}}
	other, err := s.API.CreatePolicy(s.ctx, second)
	s.must(err)
	for _, change := range []func(*client.Client) (api.Changed, error){
		func(cl *client.Client) (api.Changed, error) { return cl.PolicyDo(s.ctx, "p", "disable") },
		func(cl *client.Client) (api.Changed, error) { return cl.RenameTag(s.ctx, "laptops", "notebooks") },
	} {
		ch, err := change(s.API)
		s.must(err)
		_, err = s.API.WaitApplied(s.ctx, ch.Revision)
		s.must(err)
	}
	for _, a := range []*Agent{s.laptop, s.web} {
		s.until(a.Name+" lays the flow to the other policy", func() bool {
			return slices.ContainsFunc(a.Status().Flows, func(f api.AgentFlow) bool { return f.Policy == other.ID && f.Rule == 1 && f.Dst.Port() == 80 })
		})
	}
	select {
	case err := <-s.ends:
		t.Errorf("an end was told %v", err)
	default:
	}
	if len(s.logged.list) > 0 {
		t.Errorf("cuts %v", s.logged.list)
	}
	_, err = s.API.DeletePolicy(s.ctx, "second")
	s.must(err)
	s.cut(`policy.delete "second"`)
	if _, err := s.laptop.DialContext(s.ctx, "tcp", "server.enclave:80"); !errors.Is(err, agent.ErrUnknownName) {
		t.Errorf("after the last policy: %v", err)
	}
}
