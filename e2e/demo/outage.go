package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"enclave/agent"
	"enclave/wire"
	"enclave/wire/api"
)

// outages is what happens while control is away: the two timed ends among it.
type outages struct {
	hoursEnd, expiry time.Time
	byHours, byDate  *download
	revision         wire.Revision
}

// withoutControl stops the control plane and shows that existing pairs go on, that
// timed ends come on time all the same, and that nothing is lost when it is back.
func (d *demo) withoutControl(ctx context.Context) {
	d.section("The control plane stops")
	var o outages
	d.check("two downloads are under way, one until the end of active hours, one until its policy expires", func() (string, error) {
		return d.startTimed(ctx, &o)
	})
	d.check("control is stopped: existing pairs go on, new flows included", func() (string, error) {
		if err := d.StopControl(); err != nil {
			return "", err
		}
		if _, err := d.fetch(ctx, d.ben, d.pod1); err != nil {
			return "", err
		}
		return d.fetch(ctx, d.ana, d.pod2)
	})
	d.withoutRelay(ctx)
	d.section("Still without control")
	d.check("active hours end: the flow is cut on time", func() (string, error) {
		return d.timedCut(ctx, o.byHours, o.hoursEnd)
	})
	d.check("the policy expires: the flow is cut on time", func() (string, error) {
		return d.timedCut(ctx, o.byDate, o.expiry)
	})
	d.check("the pair that only the ended hours had introduced has forgotten each other", func() (string, error) {
		if err := forgotten(ctx, d.cleo, d.build); err != nil {
			return "", err
		}
		_, err := refused(ctx, d.cleo, "build.enclave:80", agent.ErrUnknownName)
		return "no key, no name", err
	})
	d.check("control is back: every system returns, the state is the same", func() (string, error) { return d.controlBack(ctx, &o) })
}

// startTimed makes a policy that ends with its hours at a full minute and one that
// expires soon after, and starts a download over each.
func (d *demo) startTimed(ctx context.Context, o *outages) (string, error) {
	now := time.Now().UTC()
	o.hoursEnd = now.Add(8*time.Second + time.Minute).Truncate(time.Minute)
	o.expiry = o.hoursEnd.Add(1500 * time.Millisecond)
	end := o.hoursEnd.Format("15:04")
	if end == "00:00" {
		end = "24:00"
	}
	hours := wire.Window{Zone: "UTC", Days: []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}, Start: now.Add(-2 * time.Hour).Format("15:04"), End: end}
	_, err := d.API.CreatePolicy(ctx, wire.Policy{Name: "Builds in office hours", Kind: wire.Direct, Enabled: true,
		SenderTags: []wire.Tag{"contractors"}, ReceiverTags: []wire.Tag{"builders"}, ACLs: []wire.ACL{allow(wire.TCP, 80)}, ActiveHours: wire.Windows{hours}})
	if err != nil {
		return "", err
	}
	p, err := d.API.CreatePolicy(ctx, wire.Policy{Name: "Debugging, for now", Kind: wire.Direct, Enabled: true,
		SenderTags: []wire.Tag{"developers"}, ReceiverTags: []wire.Tag{"pods"}, ACLs: []wire.ACL{allow(wire.TCP, 81)}, ExpiresAt: &o.expiry})
	if err != nil {
		return "", err
	}
	if err := d.applied(ctx, p.Version); err != nil {
		return "", err
	}
	o.revision = p.Version
	if o.byHours, err = startDownload(ctx, d.cleo.Agent, "http://build.enclave/download"); err != nil {
		return "", err
	}
	if o.byDate, err = startDownload(ctx, d.ana.Agent, "http://pod-1.enclave:81/download"); err != nil {
		return "", err
	}
	return fmt.Sprintf("hours end at %s, expiry at %s", o.hoursEnd.Format("15:04:05"), o.expiry.Format("15:04:05.0")), nil
}

func (d *demo) timedCut(ctx context.Context, dl *download, at time.Time) (string, error) {
	if dl == nil {
		return "", errors.New("the download never started")
	}
	last, err := dl.cut(ctx, time.Until(at)+3*time.Second)
	if err != nil {
		return "", err
	}
	off := last.Sub(at)
	if off.Abs() > time.Second {
		return "", fmt.Errorf("last byte %s from the instant, want within a second", off)
	}
	if off < 0 {
		return fmt.Sprintf("last byte %s before the instant", ms(-off)), nil
	}
	return fmt.Sprintf("last byte %s after the instant", ms(off)), nil
}

func (d *demo) controlBack(ctx context.Context, o *outages) (string, error) {
	began := time.Now()
	if err := d.StartControl(ctx); err != nil {
		return "", err
	}
	for _, a := range d.everyone {
		err := eventually(ctx, 60*time.Second, a.Name+" is not back", func() bool { return a.Status().State == api.AgentRunning })
		if err != nil {
			return "", err
		}
	}
	took := time.Since(began)
	rev, err := d.API.Revision(ctx)
	if err != nil {
		return "", err
	}
	// The expiry of a policy is itself a change, made when control is there to make it.
	if rev.Revision < o.revision || rev.Revision > o.revision+2 {
		return "", fmt.Errorf("revision %d, was %d", rev.Revision, o.revision)
	}
	systems, err := d.API.Systems(ctx, nil)
	if err != nil {
		return "", err
	}
	if len(systems) != len(d.everyone) {
		return "", fmt.Errorf("%d systems, want %d", len(systems), len(d.everyone))
	}
	if _, err := d.fetch(ctx, d.ana, d.pod1); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d systems connected after %s, revision %d", len(systems), ms(took), rev.Revision), nil
}

// withoutRelay stops the relay.
func (d *demo) withoutRelay(ctx context.Context) {
	d.section("The relay stops as well")
	direct, err := startDownload(ctx, d.ana.Agent, "http://pod-1.enclave/download")
	d.check("a direct and a relayed pair are at work", func() (string, error) {
		if err != nil {
			return "", err
		}
		return d.route(ctx, d.ben, d.pod1, "relay")
	})
	if err != nil {
		return
	}
	defer direct.stop()
	d.check("the relay is stopped: the direct pair does not notice", func() (string, error) {
		if err := d.StopRelay(); err != nil {
			return "", err
		}
		for range 10 {
			if err := direct.flowing(ctx, time.Second); err != nil {
				return "", err
			}
		}
		return d.route(ctx, d.ana, d.pod1, "direct")
	})
	d.check("the relayed pair is cut off", func() (string, error) {
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if r, err := d.ben.Ping(short, "pod-1"); err == nil {
			return "", fmt.Errorf("it answers by %s %s", r.Route, r.Via)
		}
		return "", nil
	})
	d.check("the relay is back: the relayed pair returns", func() (string, error) {
		if err := d.StartRelay(ctx); err != nil {
			return "", err
		}
		began := time.Now()
		if _, err := d.route(ctx, d.ben, d.pod1, "relay"); err != nil {
			return "", err
		}
		took := time.Since(began)
		said, err := d.fetch(ctx, d.ben, d.pod1)
		return "after " + ms(took) + "; " + said, err
	})
}
