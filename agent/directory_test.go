package agent

import (
	"strings"
	"testing"
	"time"

	"enclave/wire"
)

func TestNames(t *testing.T) {
	o := newOrg(t, noon)
	web, db := o.peer("bbbbb", 2, noon, always), o.peer("ccccc", 3, noon, always)
	web2, tricky := o.peer("ddddd", 4, noon, always), o.peer("eeeee", 5, noon, always)
	web.Name, web2.Name, db.Name, tricky.Name = "web", "web", "db", "ccccc" // tricky is named like db's ID
	d := new(directory).follow("enclave", wire.DNS{}, []wire.Peer{web, db, web2, tricky})
	for name, want := range map[string]string{
		"web":                                  "bbbbb ddddd",
		"web.enclave":                          "bbbbb ddddd",
		"WEB.Enclave.":                         "bbbbb ddddd",
		"web.":                                 "bbbbb ddddd",
		"db":                                   "ccccc",
		"bbbbb":                                "bbbbb",
		"BBBBB":                                "bbbbb",
		"bbbbb.id":                             "bbbbb",
		"bbbbb.id.enclave":                     "bbbbb",
		"bbbbb.ID.ENCLAVE.":                    "bbbbb",
		"bbbbb.enclave":                        "bbbbb",
		"ccccc":                                "eeeee", // a name goes before a bare ID …
		"ccccc.id.enclave":                     "ccccc", // … and this form is never a name
		"eeeee":                                "eeeee",
		"100.64.0.2":                           "bbbbb",
		"::ffff:100.64.0.2":                    "bbbbb",
		"fd00::2":                              "bbbbb",
		"FD00:0::2":                            "bbbbb",
		"fd00::2%eth0":                         "",
		"100.64.0.9":                           "",
		"100.64.0.2.enclave":                   "",
		"nobody":                               "",
		"web.other":                            "",
		"web.enclave.org":                      "",
		"web.enclave..":                        "",
		"zzzzz.id.enclave":                     "",
		"web.id":                               "",
		"id":                                   "",
		".id":                                  "",
		"enclave":                              "",
		"":                                     "",
		".":                                    "",
		"wéb":                                  "",
		strings.Repeat("a.", 1000) + "enclave": "",
	} {
		var got []string
		for _, c := range d.find(name, noon) {
			got = append(got, string(c.ID))
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%.40q is %q, want %q", name, s, want)
		}
	}
	if got := new(directory).follow("", wire.DNS{}, []wire.Peer{web}).find("web.enclave", noon); got != nil {
		t.Error("without a zone there are no names in one")
	}
}

// TestLapsedByTheClock: between the end of a peer's last grant and the loop's next turn its
// name stands for nobody, and the answer says why.
func TestLapsedByTheClock(t *testing.T) {
	o := newOrg(t, noon)
	p := o.peer("bbbbb", 2, noon, span{until: noon.Add(time.Hour)})
	d := new(directory).follow("enclave", wire.DNS{}, []wire.Peer{p})
	name, end := p.Name+".enclave", noon.Add(time.Hour)
	if found := d.find(name, end.Add(-1)); len(found) != 1 || d.lapsed(name, end.Add(-1)) != "" {
		t.Errorf("before its end: %d found, lapsed: %q", len(found), d.lapsed(name, end.Add(-1)))
	}
	if found, why := d.find(name, end), d.lapsed(name, end); len(found) != 0 || !strings.Contains(why, "no longer introduced") || !strings.Contains(why, end.UTC().Format(time.RFC3339)) {
		t.Errorf("at its end: %d found, lapsed: %q", len(found), why)
	}
	if why := d.lapsed("nobody.enclave", end); why != "" {
		t.Errorf("a name that nobody had: %q", why)
	}
}

// TestMet: having met lasts for one introduction, and for one key.
func TestMet(t *testing.T) {
	o := newOrg(t, noon)
	p := o.peer("bbbbb", 2, noon, always)
	d := new(directory).follow("", wire.DNS{}, []wire.Peer{p})
	held := d.byID["bbbbb"]
	held.met.Store(true)
	moved := p
	moved.Reach.NAT = "hard"
	if d = d.follow("", wire.DNS{}, []wire.Peer{moved}); !d.byID["bbbbb"].met.Load() {
		t.Error("forgotten although the introduction went on")
	}
	rekeyed := moved
	rekeyed.WireGuard[0]++
	if next := d.follow("", wire.DNS{}, []wire.Peer{rekeyed}); next.byID["bbbbb"].met.Load() {
		t.Error("another key is another peer")
	}
	d = d.follow("", wire.DNS{}, nil)
	held.met.Store(true) // a dial that comes too late
	if d = d.follow("", wire.DNS{}, []wire.Peer{p}); d.byID["bbbbb"].met.Load() {
		t.Error("a new introduction has been met before it began")
	}
}

func FuzzName(f *testing.F) {
	o := newOrg(f, noon)
	p := o.peer("bbbbb", 2, noon, always)
	p.Name = "web"
	d := new(directory).follow("enclave", wire.DNS{}, []wire.Peer{p})
	for _, s := range []string{"web.enclave.", "bbbbb.id.enclave", "fd00::2%1", "100.64.0.2", "."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		for _, c := range d.find(name, noon) {
			if c.ID != "bbbbb" || len(name) > 64 {
				t.Fatalf("%q is %s", name, c.ID)
			}
		}
	})
}
