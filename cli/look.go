package cli

import (
	"context"
	"io"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"enclave/cli/client"
	"enclave/wire"
	"enclave/wire/api"
)

func (a *app) relays() *cobra.Command {
	return a.group("relays", "Look at the relays, and remove one", a.relaysDelete(), listing(a, "List relays", (*client.Client).Relays, []string{"NAME", "ID", "ADDRESS", "STUN", "ENROLLED"}, func(r api.Relay) []string {
		return []string{orDash(r.Name), string(r.ID), r.Addr, join(r.STUN), when(&r.EnrolledAt)}
	}))
}

func (a *app) relaysDelete() *cobra.Command {
	var w changing
	return w.flags(&cobra.Command{Use: "delete RELAY", Short: "Remove a relay and its identity", Args: exactly("RELAY"), ValidArgsFunction: a.completeRelays(),
		Example: "  enclave relays delete relay-7f3a --dry-run",
		RunE: func(c *cobra.Command, args []string) error {
			return a.change(c, w, "removed "+args[0], func(cl *client.Client) (api.Changed, error) { return cl.DeleteRelay(c.Context(), args[0]) })
		}})
}

// overview is what `status` shows.
type overview struct {
	Revision wire.Revision   `json:"revision"`
	At       time.Time       `json:"at"`
	Applied  bool            `json:"applied"`
	Waiting  []wire.SystemID `json:"waiting"`
	// Away is how many systems are not connected and may act on an older map, and until when.
	Away      int                      `json:"away,omitempty"`
	AwayUntil *time.Time               `json:"away_until,omitempty"`
	Systems   map[wire.SystemState]int `json:"systems"`
	Policies  map[string]int           `json:"policies"`
	Relays    int                      `json:"relays"`
	Backup    *api.BackupStatus        `json:"backup,omitempty"` // of the schedule
	// Warnings name what is stored and not served as it stands.
	Warnings []string `json:"warnings,omitempty"`
	// ConfirmBy is when the last change reverts unless it is confirmed.
	ConfirmBy *time.Time `json:"confirm_by,omitempty"`
}

func (a *app) status() *cobra.Command {
	return &cobra.Command{Use: "status", Short: "Show where the organisation is", Args: exactly(), RunE: func(c *cobra.Command, _ []string) error {
		o, err := a.overview(c.Context())
		if err != nil {
			return err
		}
		return a.print(o, func(w io.Writer) {
			rows := [][]string{{"revision", num(int(o.Revision)) + " of " + o.At.Format(time.RFC3339)}}
			switch {
			case !o.Applied:
				rows = append(rows, []string{"in effect", "not yet at " + join(o.Waiting)})
			case o.Away > 0:
				rows = append(rows, []string{"in effect", "at every connected system"})
			default:
				rows = append(rows, []string{"in effect", "everywhere"})
			}
			if o.Away > 0 {
				rows = append(rows, []string{"away", olderMaps(o.Away, o.AwayUntil)})
			}
			for _, s := range []wire.SystemState{wire.Connected, wire.Disconnected, wire.Pending, wire.Disabled, wire.Revoked} {
				if n := o.Systems[s]; n > 0 {
					rows = append(rows, []string{"systems " + string(s), num(n)})
				}
			}
			for _, s := range []string{"active", "outside hours", "disabled", "expired", "inactive: no rules"} {
				if n := o.Policies[s]; n > 0 {
					rows = append(rows, []string{"policies " + s, num(n)})
				}
			}
			rows = append(rows, []string{"relays", num(o.Relays)})
			if b := o.Backup; b != nil {
				rows = append(rows, []string{"last backup", lastBackup(b)})
			}
			if o.ConfirmBy != nil {
				rows = append(rows, []string{"pending", "the last change reverts at " + when(o.ConfirmBy) + " unless \"enclave policy confirm\" comes"})
			}
			for _, text := range o.Warnings {
				rows = append(rows, []string{"warning", clean(text)})
			}
			table(w, rows...)
		})
	}}
}

// olderMaps tells of systems that a change has not reached, because they are not there.
func olderMaps(n int, until *time.Time) string {
	what := wire.Count(n, "system") + " that is not connected may have an older map"
	if n != 1 {
		what = wire.Count(n, "system") + " that are not connected may go on among themselves by older maps"
	}
	if until == nil {
		return what + ", for ever: see --map-life"
	}
	return what + ", until " + when(until) + " at the latest"
}

func (a *app) overview(ctx context.Context) (overview, error) {
	o := overview{Waiting: []wire.SystemID{}, Systems: map[wire.SystemState]int{}, Policies: map[string]int{}}
	cl, err := a.client()
	if err != nil {
		return o, err
	}
	rev, err := cl.Revision(ctx)
	if err != nil {
		return o, err
	}
	o.Revision, o.At, o.Applied, o.Warnings, o.ConfirmBy = rev.Revision, rev.At, rev.Applied, rev.Warnings, rev.ConfirmBy
	o.Away, o.AwayUntil = rev.Away, rev.AwayUntil
	o.Waiting = append(o.Waiting, rev.Waiting...)
	systems, err := cl.Systems(ctx, nil)
	if err != nil {
		return o, err
	}
	for _, s := range systems {
		o.Systems[s.State]++
	}
	policies, err := cl.Policies(ctx)
	if err != nil {
		return o, err
	}
	for _, p := range policies {
		o.Policies[p.State]++
	}
	relays, err := cl.Relays(ctx)
	if err != nil {
		return o, err
	}
	o.Relays = len(relays)
	h, err := cl.Health(ctx, false)
	o.Backup = h.Backup
	return o, err
}

// lastBackup says in a line how the schedule stands.
func lastBackup(b *api.BackupStatus) string {
	text := "none yet"
	if b.Last != nil {
		text = b.Last.Format(time.RFC3339) + ", " + clean(b.File)
	}
	if b.Error != "" {
		text += "; THE LAST ATTEMPT FAILED: " + clean(b.Error)
	}
	return text
}

// activity is "audit list" under the name that it had.
func (a *app) activity() *cobra.Command {
	c := a.auditList("activity")
	c.Hidden = true
	return c
}

// buildInfo is what `version` shows.
type buildInfo struct {
	Version  string `json:"version"`
	Protocol int    `json:"protocol"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func build() buildInfo {
	b := buildInfo{Version: "devel", Protocol: wire.Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		b.Version = info.Main.Version
	}
	return b
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Show the version", Args: exactly(), RunE: func(*cobra.Command, []string) error {
		b := build()
		return a.print(b, func(io.Writer) {
			a.printf("enclave %s (agent protocol %d, %s, %s)\n", b.Version, b.Protocol, b.Go, b.Platform)
		})
	}}
}
