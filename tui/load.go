package tui

import (
	"context"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"enclave/tui/screen"
	"enclave/wire/api"
)

// forecastDays is how far ahead the overview looks.
const forecastDays = 7

// load reads the organisation. What was read before an error is thrown away: half an
// organisation would look like a whole one.
func load(c screen.Client) tea.Cmd {
	return screen.Call(func(ctx context.Context) tea.Msg {
		var out loaded
		o := &out.org
		for _, step := range []func() error{
			func() (err error) { o.Revision, err = c.Revision(ctx); return err },
			func() (err error) { o.Systems, err = c.Systems(ctx, nil); return err },
			func() (err error) { o.Policies, err = c.Policies(ctx); return err },
			func() (err error) { o.Relays, err = c.Relays(ctx); return err },
			func() (err error) { o.Coming, err = c.Forecast(ctx, forecastDays); return err },
		} {
			if out.err = step(); out.err != nil {
				break
			}
		}
		return out
	})
}

// batch is how many records one message carries at most.
const batch = 256

// listen waits for records and takes all that are there.
func listen(in <-chan api.AuditRecord) tea.Cmd {
	if in == nil {
		return nil
	}
	return func() tea.Msg {
		r, ok := <-in
		if !ok {
			return nil
		}
		out := records{r}
		for len(out) < batch {
			select {
			case r, ok := <-in:
				if !ok {
					return out
				}
				out = append(out, r)
			default:
				return out
			}
		}
		return out
	}
}

// follow sends the newest records and then each as it is written, until ctx ends. A
// stream that breaks is taken up where it ended.
func follow(ctx context.Context, c screen.Trail, out chan<- api.AuditRecord, told func(error)) {
	after := int64(-1)
	send := func(r *api.AuditRecord) error {
		select {
		case out <- *r:
			after = r.Seq
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	begin := func() error {
		list, err := c.Audit(ctx, nil, screen.MaxAudit)
		if err != nil {
			return err
		}
		for i := range list {
			if err := send(&list[i]); err != nil {
				return err
			}
		}
		return nil
	}
	for begun := false; ctx.Err() == nil; {
		var err error
		if !begun {
			err = begin()
			begun = err == nil
		}
		if err == nil {
			told(nil)
			err = c.FollowAudit(ctx, nil, after, send)
		}
		if ctx.Err() == nil {
			told(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(awayBeat):
		}
	}
}
