package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"enclave/e2e/world"
	"enclave/wire"
	"enclave/wire/api"
)

// cuts: a download is under way when what allows it ends, in every way it can end.
func (d *demo) cuts(ctx context.Context) {
	d.section("A download is under way when …")
	id := func(a *world.Agent) string { return string(a.Status().Self.ID) }
	policy := func(verb string) func() (api.Changed, error) {
		return func() (api.Changed, error) { return d.API.PolicyDo(ctx, kubernetes, verb) }
	}
	ports := func(port uint16) func() (api.Changed, error) {
		return func() (api.Changed, error) {
			p, err := d.API.Policy(ctx, kubernetes)
			if err != nil {
				return api.Changed{}, err
			}
			p.ACLs = []wire.ACL{allow(wire.TCP, port)}
			p, err = d.API.UpdatePolicy(ctx, kubernetes, p.Policy, p.Version)
			return api.Changed{Revision: p.Version}, err
		}
	}
	for _, c := range []struct {
		what           string
		from           *world.Agent
		end, undo      func() (api.Changed, error)
		stayIntroduced bool
	}{
		{"the policy is disabled (direct path)", d.ana, policy("disable"), policy("enable"), false},
		{"the policy is disabled (relayed path)", d.ben, policy("disable"), policy("enable"), false},
		{"its rule is narrowed to another port", d.ana, ports(8080), ports(80), true},
		{"the sender loses its tag", d.ana,
			func() (api.Changed, error) { return d.API.SetTags(ctx, id(d.ana), nil, []wire.Tag{"developers"}) },
			func() (api.Changed, error) { return d.API.SetTags(ctx, id(d.ana), []wire.Tag{"developers"}, nil) }, false},
		{"the receiver is disabled", d.ana,
			func() (api.Changed, error) { return d.API.SystemDo(ctx, id(d.pod1), "disable") },
			func() (api.Changed, error) { return d.API.SystemDo(ctx, id(d.pod1), "enable") }, false},
		{"the sender is disabled", d.ben,
			func() (api.Changed, error) { return d.API.SystemDo(ctx, id(d.ben), "disable") },
			func() (api.Changed, error) { return d.API.SystemDo(ctx, id(d.ben), "enable") }, false},
	} {
		d.check(c.what+": it is cut", func() (string, error) {
			said, err := d.cutBy(ctx, c.from, d.pod1, c.end, c.stayIntroduced)
			_, undone := d.change(ctx, c.undo)
			return said, errors.Join(err, undone)
		})
	}
	d.check("the policy is disabled, but a second one still allows it: it goes on", func() (string, error) { return d.secondPolicy(ctx, policy) })
}

// cutBy starts a download, ends what allows it and measures when the last byte came.
func (d *demo) cutBy(ctx context.Context, from, to *world.Agent, end func() (api.Changed, error), stay bool) (string, error) {
	dl, err := startDownload(ctx, from.Agent, "http://"+to.Name+".enclave/download")
	if err != nil {
		return "", err
	}
	answered, err := d.change(ctx, end)
	if err != nil {
		dl.stop()
		return "", err
	}
	last, err := dl.cut(ctx, 5*time.Second)
	if err != nil {
		return "", err
	}
	said := fmt.Sprintf("last byte %s, connection reset", after(last.Sub(answered)))
	if stay {
		return said, nil
	}
	return said + ", both sides have forgotten each other's keys", forgotten(ctx, from, to)
}

// after words the time from an API answer to an effect. The change is in force
// before the answer is sent, so a quick effect comes first.
func after(d time.Duration) string {
	if d <= 0 {
		return ms(-d) + " before the API's answer"
	}
	return ms(d) + " after the API's answer"
}

func (d *demo) secondPolicy(ctx context.Context, policy func(string) func() (api.Changed, error)) (string, error) {
	second, err := d.API.CreatePolicy(ctx, wire.Policy{Name: "Also for developers", Kind: wire.Direct, Enabled: true,
		SenderTags: []wire.Tag{"developers"}, ReceiverTags: []wire.Tag{"pods"}, ACLs: []wire.ACL{{Proto: wire.TCP}}})
	if err != nil {
		return "", err
	}
	defer d.change(ctx, policy("enable"))
	defer d.change(ctx, func() (api.Changed, error) { return d.API.DeletePolicy(ctx, string(second.ID)) })
	if err := d.applied(ctx, second.Version); err != nil {
		return "", err
	}
	dl, err := startDownload(ctx, d.ana.Agent, "http://pod-1.enclave/download")
	if err != nil {
		return "", err
	}
	defer dl.stop()
	if _, err := d.change(ctx, policy("disable")); err != nil {
		return "", err
	}
	for range 3 { // not only what was in flight
		if err := dl.flowing(ctx, 2*time.Second); err != nil {
			return "", err
		}
	}
	flows := d.pod1.Status().Flows
	if !slices.ContainsFunc(flows, func(f api.AgentFlow) bool { return f.Policy == second.ID && f.Dst.Port() == 80 }) {
		return "", fmt.Errorf("the receiver does not lay the flow to policy %s: %+v", second.ID, flows)
	}
	_, n, _ := dl.progress()
	return fmt.Sprintf("%d kB so far on one connection, now laid to %s", n/1000, second.ID), nil
}
