package cli

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"enclave/control/policy"
	"enclave/wire"
)

func TestParseAllow(t *testing.T) {
	for in, want := range map[string]string{
		"tcp/80": "tcp/80", "udp": "udp", "icmp": "icmp", "any": "any", "tcp/22,8000-8100": "tcp/22,8000-8100",
		"": "", "tcp/": "", "tcp/0": "", "tcp/65536": "", "tcp/9-8": "", "ftp/21": "", "tcp/80/81": "", "tcp/http": "", "80": "",
	} {
		acl, err := parseAllow(in)
		if (err == nil) != (want != "") || (err == nil && rules([]wire.ACL{acl}) != want) {
			t.Errorf("parseAllow(%q) = %v, %v; want %q", in, acl, err, want)
		}
	}
}

func TestParseHours(t *testing.T) {
	for in, want := range map[string]string{
		"mon 08:00-18:00 Europe/London":       "mon 08:00-18:00 Europe/London",
		"mon-wed,fri 08:00-18:00 UTC":         "mon,tue,wed,fri 08:00-18:00 UTC",
		"sat-mon 22:00-02:00 UTC":             "sat,sun,mon 22:00-02:00 UTC",
		"mon-sun 00:00-24:00 UTC":             "mon,tue,wed,thu,fri,sat,sun 00:00-24:00 UTC",
		"":                                    "",
		"mon 08:00 UTC":                       "",
		"mon 08:00-18:00":                     "",
		"monday 08:00-18:00 UTC":              "",
		"mon, 08:00-18:00 UTC":                "",
		"mon-sun,mon-sun 08:00-18:00 UTC":     "",
		"mon 08:00-18:00 Europe/London again": "",
	} {
		w, err := parseHours(in)
		got := strings.Join(w.Days, ",") + " " + w.Start + "-" + w.End + " " + w.Zone
		if (err == nil) != (want != "") || (err == nil && got != want) {
			t.Errorf("parseHours(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestInstant(t *testing.T) {
	now := time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Time{
		"":                          {},
		"24h":                       now.Add(24 * time.Hour),
		"7d":                        now.AddDate(0, 0, 7),
		"1h30m":                     now.Add(90 * time.Minute),
		"2026-03-29T18:00:00Z":      time.Date(2026, 3, 29, 18, 0, 0, 0, time.UTC),
		"2026-03-29T18:00:00+02:00": time.Date(2026, 3, 29, 16, 0, 0, 0, time.UTC),

		"2026-07-01 18:00 Europe/Berlin":  time.Date(2026, 7, 1, 16, 0, 0, 0, time.UTC),
		" 2026-07-01T18:00 Europe/Berlin": time.Date(2026, 7, 1, 16, 0, 0, 0, time.UTC),
		"2026-01-01 18:00 Europe/Berlin":  time.Date(2026, 1, 1, 17, 0, 0, 0, time.UTC),
	} {
		if got, err := instant(in, now); err != nil || !got.Equal(want) {
			t.Errorf("instant(%q) = %s, %v; want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"0s", "-1h", "-1d", "yesterday", "2026-03-29", "5x", "d", "1.5d", "+7d", "99999d", "2026-07-01 18:00", "2026-07-01 18:00 Berlin", "2026-07-01 18:00 Europe/Berlin now"} {
		if got, err := instant(in, now); err == nil {
			t.Errorf("instant(%q) = %s, want an error", in, got)
		}
	}
}

// isUsage reports whether a parser refused the way the contract says.
func isUsage(err error) bool {
	var f *failure
	return errors.As(err, &f) && f.exit == exitUsage && f.Code == "usage" && len(f.Message) < 400
}

func FuzzParseAllow(f *testing.F) {
	for _, s := range []string{"tcp/80", "tcp/22,8000-8100", "udp", "icmp/8", "any", "tcp/ 80", "TCP/80", "tcp/0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		acl, err := parseAllow(s)
		if err != nil {
			if !isUsage(err) {
				t.Fatalf("parseAllow(%q): %v", s, err)
			}
			return
		}
		again, err := parseAllow(rules([]wire.ACL{acl}))
		if err != nil || again.Proto != acl.Proto || !slices.Equal(again.Ports, acl.Ports) {
			t.Fatalf("parseAllow(%q) = %v, printed and read again %v, %v", s, acl, again, err)
		}
	})
}

func FuzzParseHours(f *testing.F) {
	for _, s := range []string{"mon 08:00-18:00 Europe/London", "sat-mon,wed 22:00-02:00 UTC", "mon 24:00-24:00 Local", "mon 8-9 ../etc"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		w, err := parseHours(s)
		if err != nil {
			if !isUsage(err) {
				t.Fatalf("parseHours(%q): %v", s, err)
			}
			return
		}
		if len(w.Days) == 0 || len(w.Days) > 7 {
			t.Fatalf("parseHours(%q) = %v", s, w)
		}
		// Whatever was read, the policy's own rules judge it without a panic.
		policy.Validate(&wire.Policy{Name: "p", Kind: wire.Direct, ActiveHours: []wire.Window{w}}, "")
	})
}

func FuzzInstant(f *testing.F) {
	now := time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)
	for _, s := range []string{"", "24h", "7d", "36500d", "-1h", "2026-03-29T18:00:00+02:00", "9999999h", "2026-07-01 18:00 Europe/Berlin"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		at, err := instant(s, now)
		if err != nil {
			if !isUsage(err) {
				t.Fatalf("instant(%q): %v", s, err)
			}
			return
		}
		if d, err := parseDuration(s); err == nil && s != "" && !at.After(now) {
			t.Fatalf("instant(%q) = %s, which is not %s after %s", s, at, d, now)
		}
	})
}

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"1d", "36500d", "36501d", "0d", "-1d", "1h30m", "1.5h", "99999999999999d", "d", " 1d", "1d\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parseDuration(s)
		if err != nil {
			return
		}
		if days, ok := strings.CutSuffix(s, "d"); ok && (d < 0 || d%(24*time.Hour) != 0 || strings.TrimLeft(days, "0123456789") != "") {
			t.Fatalf("parseDuration(%q) = %s", s, d)
		}
	})
}

func TestExpiry(t *testing.T) {
	now := time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)
	berlin := "2026-12-24 18:00 Europe/Berlin"
	for in, want := range map[string]string{
		"": "-", "never": "-", "8h": "2026-03-28T20:00:00Z", "7d": "2026-04-04T12:00:00Z", "2026-03-29T18:00:00+02:00": "2026-03-29T16:00:00Z",
		berlin: berlin, "2026-12-24T18:00 Europe/Berlin": berlin, " 2026-12-24   18:00 Europe/Berlin ": berlin,
		"2026-12-24 18:00 Berlin": "", "2026-12-24 25:00 Europe/Berlin": "", "2026-02-30 10:00 UTC": "", "2026-12-24 18:00": "",
		"2025-12-24 18:00 Europe/Berlin": "", "-8h": "", "soon": "", "2025-01-01T00:00:00Z": "", "a b c d": "", "2026-12-24 18:00 Local": "",
	} {
		e := expiring{when: in}
		at, local, action, err := e.read(now)
		if got := ends(at, local, action); (err == nil) != (want != "") || (err == nil && got != want) {
			t.Errorf("%q is %s, %v; want %q", in, got, err, want)
		}
	}
	for _, e := range []expiring{{action: "delete"}, {when: "8h", action: "forget"}, {when: "never", action: "delete"}} {
		if _, _, _, err := e.read(now); err == nil {
			t.Errorf("%+v is accepted", e)
		}
	}
}
