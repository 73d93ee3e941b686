package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"enclave/agent"
	"enclave/e2e/world"
	"enclave/wire"
	"enclave/wire/api"
)

const kubernetes = "Kubernetes for developers"

// strangers: before any policy, nobody is known to anybody.
func (d *demo) strangers(ctx context.Context) {
	d.section("Without policies")
	d.check("every system enrols and follows its map", func() (string, error) {
		began := time.Now()
		for _, a := range d.everyone {
			err := eventually(ctx, 30*time.Second, a.Name+" is not up", func() bool { return a.Status().State == api.AgentRunning })
			if err != nil {
				return "", err
			}
		}
		return fmt.Sprintf("%d systems in %s", len(d.everyone), ms(time.Since(began))), nil
	})
	d.check("every system is unknown to every other", func() (string, error) {
		for _, a := range d.everyone {
			if s := a.Status(); len(s.Peers) > 0 || len(a.Keys()) > 0 {
				return "", fmt.Errorf("%s knows %d peers and holds %d keys", a.Name, len(s.Peers), len(a.Keys()))
			}
			for _, b := range d.everyone {
				if _, err := a.DialContext(ctx, "tcp", b.Name+".enclave:80"); a != b && !errors.Is(err, agent.ErrUnknownName) {
					return "", fmt.Errorf("%s dials %s: %v, want an unknown name", a.Name, b.Name, err)
				}
			}
		}
		return "no peer, no address, no name", nil
	})
	d.check("not one packet has crossed between two of them", func() (string, error) {
		for _, a := range d.everyone {
			for _, b := range d.everyone {
				if t := d.Lab.Traffic(a.Host, b.Host); a != b && t.Packets > 0 {
					return "", fmt.Errorf("%d packets from %s to %s", t.Packets, a.Name, b.Name)
				}
			}
		}
		return fmt.Sprintf("%d pairs of hosts watched", len(d.everyone)*(len(d.everyone)-1)), nil
	})
}

// opens: one policy, and the right pairs can talk.
func (d *demo) opens(ctx context.Context) {
	d.section(`"` + kubernetes + `": developers, contractors → pods, tcp/80`)
	d.check("the policy is in effect at every system it touches", func() (string, error) {
		began := time.Now()
		p, err := d.API.CreatePolicy(ctx, wire.Policy{Name: kubernetes, Kind: wire.Direct, Enabled: true,
			SenderTags: []wire.Tag{"developers", "contractors"}, ReceiverTags: []wire.Tag{"pods"}, ACLs: []wire.ACL{allow(wire.TCP, 80)}})
		if err != nil {
			return "", err
		}
		if err := d.applied(ctx, p.Version); err != nil {
			return "", err
		}
		return fmt.Sprintf("%s, in %s", p.State, ms(time.Since(began))), nil
	})
	for _, from := range []*world.Agent{d.ana, d.ben, d.cleo} {
		d.check("GET http://pod-1.enclave/ from "+from.Name, func() (string, error) { return d.fetch(ctx, from, d.pod1) })
	}
	d.check("laptop-ana reaches pod-1 directly", func() (string, error) {
		return d.route(ctx, d.ana, d.pod1, "direct")
	})
	d.check("laptop-ben, behind a symmetric NAT, reaches it over the relay", func() (string, error) {
		return d.route(ctx, d.ben, d.pod1, "relay")
	})
}

func allow(p wire.Proto, port uint16) wire.ACL {
	return wire.ACL{Proto: p, Ports: wire.Ports{{Lo: port, Hi: port}}}
}

// fetch gets the page of a pod and says what came by which way.
func (d *demo) fetch(ctx context.Context, from, to *world.Agent) (string, error) {
	began := time.Now()
	status, body, err := get(ctx, from.Agent, "http://"+to.Name+".enclave/")
	if err != nil {
		return "", err
	}
	if want := "hello from " + to.Name + "\n"; status != http.StatusOK || body != want {
		return "", fmt.Errorf("got %d and %q, want 200 and %q", status, body, want)
	}
	took := time.Since(began)
	r, err := from.Ping(ctx, to.Name)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d %q in %s, path %s via %s", status, body[:len(body)-1], ms(took), r.Route, r.Via), nil
}

// route waits until the pair has the wanted kind of route and probes it.
func (d *demo) route(ctx context.Context, from, to *world.Agent, want string) (string, error) {
	var r api.PingResult
	err := eventually(ctx, 15*time.Second, "no "+want+" route", func() (ok bool) {
		ping, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		var err error
		r, err = from.Ping(ping, to.Name)
		return err == nil && r.Route == want
	})
	return fmt.Sprintf("%s via %s, round trip %s", r.Route, r.Via, ms(r.RTT)), err
}

// refuses: what the policy does not say does not work.
func (d *demo) refuses(ctx context.Context) {
	d.section("What it does not allow")
	d.check("tcp/22 to the same pod is refused", func() (string, error) {
		return refused(ctx, d.ana, "pod-1.enclave:22", agent.ErrDenied)
	})
	d.check("pod → laptop is refused, though the two know each other", func() (string, error) {
		return refused(ctx, d.pod1, "laptop-ana.enclave:80", agent.ErrDenied)
	})
	d.check("laptop → laptop is unknown", func() (string, error) {
		return refused(ctx, d.ana, "laptop-ben.enclave:80", agent.ErrUnknownName)
	})
	d.check("the database is unknown to all of them", func() (string, error) {
		return refused(ctx, d.ana, "db.enclave:5432", agent.ErrUnknownName)
	})
	d.check("a second policy opens the database to the pods alone", func() (string, error) {
		p, err := d.API.CreatePolicy(ctx, wire.Policy{Name: "Database for pods", Kind: wire.Direct, Enabled: true,
			SenderTags: []wire.Tag{"pods"}, ReceiverTags: []wire.Tag{"databases"}, ACLs: []wire.ACL{allow(wire.TCP, 5432)}})
		if err != nil {
			return "", err
		}
		if err := d.applied(ctx, p.Version); err != nil {
			return "", err
		}
		if _, err := refused(ctx, d.ana, "db.enclave:5432", agent.ErrUnknownName); err != nil {
			return "", err
		}
		return ask(ctx, d.pod2, "db.enclave:5432", "PUT colour blue", "GET colour")
	})
}

// ask speaks the database's line protocol.
func ask(ctx context.Context, from *world.Agent, addr string, lines ...string) (answers string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := from.DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return "", err
	}
	in := bufio.NewScanner(c)
	for _, line := range lines {
		if _, err := fmt.Fprintln(c, line); err != nil {
			return "", err
		}
		if !in.Scan() {
			return "", fmt.Errorf("no answer to %q: %v", line, in.Err())
		}
		answers = in.Text()
	}
	if answers != "VALUE blue" {
		return "", fmt.Errorf("got %q", answers)
	}
	return fmt.Sprintf("%q from %s", answers, from.Name), nil
}

func refused(ctx context.Context, from *world.Agent, addr string, want error) (string, error) {
	c, err := from.DialContext(ctx, "tcp", addr)
	if err == nil {
		c.Close()
		return "", errors.New("it was let through")
	}
	if !errors.Is(err, want) {
		return "", fmt.Errorf("%v, want %v", err, want)
	}
	return err.Error(), nil
}

// applied waits until every affected connected system follows rev.
func (d *demo) applied(ctx context.Context, rev wire.Revision) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	_, err := d.API.WaitApplied(ctx, rev)
	return err
}

// change makes one change, notes when the API answered, and waits for its effect.
func (d *demo) change(ctx context.Context, do func() (api.Changed, error)) (answered time.Time, err error) {
	ch, err := do()
	answered = time.Now()
	if err != nil {
		return answered, err
	}
	return answered, d.applied(ctx, ch.Revision)
}

// forgotten checks that neither side of a pair holds anything of the other.
func forgotten(ctx context.Context, a, b *world.Agent) error {
	keyA, keyB := a.PublicKey(), b.PublicKey()
	return eventually(ctx, 3*time.Second, "one side still holds the other's key", func() bool {
		return !slices.Contains(a.Keys(), keyB) && !slices.Contains(b.Keys(), keyA)
	})
}
