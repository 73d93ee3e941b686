package cli

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"enclave/control/policy"
	"enclave/wire"
)

// expiring are the flags that say when something ends, and what happens then.
type expiring struct {
	when, action string
}

func (e *expiring) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&e.when, "expires", "", "`WHEN` it ends: a duration (8h, 7d), an instant (2026-03-29T18:00:00Z), or a wall clock (\"2026-12-24 18:00 Europe/Berlin\")")
	f.StringVar(&e.action, "expiry-action", "", "`WHAT` happens then: disable or delete (default disable)")
	completing(c, map[string]completion{"expiry-action": words("disable", "delete")})
}

// never is what takes an expiry away where there may be one.
const never = "never"

// read returns the expiry as the flags say it; both nil is none.
func (e *expiring) read(now time.Time) (at *time.Time, local *wire.LocalTime, action wire.ExpiryAction, err error) {
	action = wire.ExpiryAction(e.action)
	if action != "" && action != wire.DisableOnExpiry && action != wire.DeleteOnExpiry {
		return nil, nil, "", usage("--expiry-action %.40q: want disable or delete", e.action)
	}
	if e.when == "" || e.when == never {
		if action != "" {
			return nil, nil, "", usage("--expiry-action goes with --expires")
		}
		return nil, nil, "", nil
	}
	if local, err = wallClock(e.when, now); err != nil || local != nil {
		return nil, local, action, err
	}
	t, err := instant(e.when, now)
	if err != nil {
		return nil, nil, "", err
	}
	if !t.After(now) {
		return nil, nil, "", usage("%s is in the past", e.when)
	}
	return &t, nil, action, nil
}

// wallClock is localTime that lies ahead.
func wallClock(s string, now time.Time) (*wire.LocalTime, error) {
	local, err := localTime(s)
	if err != nil || local == nil {
		return nil, err
	}
	if end, err := local.Instant(); err != nil || !end.After(now) {
		return nil, usage("%s is in the past", local)
	}
	return local, nil
}

// localTime reads "2026-12-24 18:00 Europe/Berlin"; nil is one word, and no wall clock.
func localTime(s string) (*wire.LocalTime, error) {
	f := strings.Fields(s)
	var local wire.LocalTime
	switch len(f) {
	case 0, 1:
		return nil, nil
	case 2:
		local = wire.LocalTime{Time: f[0], Zone: f[1]}
	case 3:
		local = wire.LocalTime{Time: f[0] + "T" + f[1], Zone: f[2]}
	default:
		return nil, usage("time %.60q: want \"2026-12-24 18:00 Europe/Berlin\"", s)
	}
	if bad := policy.ValidateLocal(local, false, ""); len(bad) > 0 {
		return nil, usage("time %.60q: %s", s, bad[0].Message).hint("a wall clock is written as \"2026-12-24 18:00 Europe/Berlin\"")
	}
	return &local, nil
}

// ends shows an expiry: the wall clock when that is what was meant.
func ends(at *time.Time, local *wire.LocalTime, action wire.ExpiryAction) string {
	text := when(at)
	if local != nil {
		text = clean(local.String())
	}
	if action == wire.DeleteOnExpiry && text != "-" {
		text += ", then deleted"
	}
	return text
}
