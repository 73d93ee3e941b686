package policy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

func TestForecast(t *testing.T) {
	h := func(n int) time.Time { return epoch.Add(time.Duration(n) * time.Hour) } // 06:00 UTC, Saturday
	e := New()
	a := sys("alice", 1, "dev")
	a.Trust = map[string]time.Time{"mfa": h(3)}
	e.PutSystem(a, epoch)
	b := sys("podbb", 2, "pod")
	b.ExpiresAt = h(50)
	e.PutSystem(b, epoch)
	p := direct("p", []wire.Tag{"dev"}, []wire.Tag{"pod"})
	p.Name = "dev for pod"
	p.ActiveHours = wire.Windows{{Zone: "UTC", Days: dayNames[:], Start: "00:00", End: "12:00"}}
	end := h(27)
	p.ExpiresAt = &end
	mustPut(t, e, p, epoch)
	e.PutTag(Tag{"dev", []string{"mfa"}}, epoch)

	show := func(list []api.Coming) (out []string) {
		for _, c := range list {
			out = append(out, fmt.Sprintf("%s %s %s %s %s|%s|%s", c.At.Format("02T15:04"), c.Kind, c.Object, c.ID, c.Name, c.Detail, c.Warning))
		}
		return out
	}
	want(t, "forecast", show(e.Forecast(epoch, h(50))), []string{
		`28T09:00 expires trust alice |system alice no longer meets "mfa"|leaves no sender for podbb`,
		"28T12:00 closes policy p dev for pod|the active hours of policy p end|",
		"29T00:00 opens policy p dev for pod|the active hours of policy p begin|",
		"29T09:00 expires policy p dev for pod|policy p expires|",
		"30T08:00 expires system podbb |system podbb expires|",
	})
	want(t, "until is included, now is not", show(e.Forecast(h(3), h(6))), []string{"28T12:00 closes policy p dev for pod|the active hours of policy p end|"})
	e.PutTag(Tag{"dev", nil}, epoch)
	want(t, "the last sender goes", e.Forecast(h(20), h(28))[0].Warning, "leaves no sender for podbb")
}

// FuzzForecast: between two entries no policy changes its state, at each one it does.
func FuzzForecast(f *testing.F) {
	for seed := range uint64(40) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		d := dice{rand.New(rand.NewPCG(seed, 6))}
		e := randomEngine(t, d)
		until := epoch.Add(8 * 24 * time.Hour)
		list := e.Forecast(epoch, until)
		if !slices.IsSortedFunc(list, func(a, b api.Coming) int { return a.At.Compare(b.At) }) {
			t.Fatal("out of order")
		}
		for id, r := range e.policies {
			for at := epoch.Add(grid); !at.After(until); at = at.Add(grid) {
				changes := r.lives(at.Add(-1)) && (r.hours.active(at.Add(-1)) != r.hours.active(at) || over(r.expires, at))
				told := slices.ContainsFunc(list, func(c api.Coming) bool { return c.At.Equal(at) && c.ID == string(id) })
				if changes != told {
					t.Fatalf("policy %s at %v: changes %v, told %v", id, at, changes, told)
				}
			}
		}
	})
}

func TestForecastIsBounded(t *testing.T) {
	e := New()
	p := direct("p", nil, nil)
	for m := range 16 {
		p.ActiveHours = append(p.ActiveHours, wire.Window{Zone: "UTC", Days: dayNames[:], Start: fmt.Sprintf("%02d:00", m), End: fmt.Sprintf("%02d:30", m)})
	}
	mustPut(t, e, p, epoch)
	if n := len(e.Forecast(epoch, epoch.AddDate(100, 0, 0))); n != maxEdges {
		t.Errorf("%d entries", n)
	}
}
