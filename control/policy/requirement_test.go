package policy

import (
	"net/netip"
	"strings"
	"testing"

	"enclave/wire"
)

// TestInRanges: a key that enrols from some addresses does so from no other.
func TestInRanges(t *testing.T) {
	ranges := []string{"192.0.2.0/24", "no range", "2001:db8::1-2001:db8::9"}
	for addr, want := range map[string]bool{"192.0.2.7": true, "::ffff:192.0.2.7": true, "2001:db8::9": true, "192.0.3.7": false, "2001:db8::a": false} {
		if InRanges(ranges, netip.MustParseAddr(addr)) != want {
			t.Errorf("%s: %v", addr, !want)
		}
	}
}

func TestMeetsIP(t *testing.T) {
	allow := func(r string) wire.RangeCondition { return wire.RangeCondition{Range: r} }
	block := func(r string) wire.RangeCondition { return wire.RangeCondition{Range: r, Blocked: true} }
	in := func(c string) wire.CountryCondition { return wire.CountryCondition{Country: c} }
	notIn := func(c string) wire.CountryCondition { return wire.CountryCondition{Country: c, Blocked: true} }
	for name, tc := range map[string]struct {
		ranges    []wire.RangeCondition
		countries []wire.CountryCondition
		addr      string
		country   string
		want      bool
	}{
		"allowed":                         {[]wire.RangeCondition{allow("192.0.2.0/24")}, nil, "192.0.2.7", "", true},
		"allow only, elsewhere":           {[]wire.RangeCondition{allow("192.0.2.0/24")}, nil, "192.0.3.7", "", false},
		"block only, elsewhere":           {[]wire.RangeCondition{block("192.0.2.0/24")}, nil, "192.0.3.7", "", true},
		"blocked":                         {[]wire.RangeCondition{block("192.0.2.0/24")}, nil, "192.0.2.7", "", false},
		"a hole in an allowed range":      {[]wire.RangeCondition{allow("192.0.2.0/24"), block("192.0.2.7")}, nil, "192.0.2.7", "", false},
		"an exception to a block":         {[]wire.RangeCondition{block("192.0.2.0/24"), allow("192.0.2.6-192.0.2.8")}, nil, "192.0.2.7", "", true},
		"the order does not matter":       {[]wire.RangeCondition{allow("192.0.2.6-192.0.2.8"), block("192.0.2.0/24")}, nil, "192.0.2.7", "", true},
		"of one size the block":           {[]wire.RangeCondition{allow("192.0.2.7"), block("192.0.2.7/32")}, nil, "192.0.2.7", "", false},
		"the last address counts":         {[]wire.RangeCondition{allow("192.0.2.1-192.0.2.9")}, nil, "192.0.2.9", "", true},
		"one beyond":                      {[]wire.RangeCondition{allow("192.0.2.1-192.0.2.9")}, nil, "192.0.2.10", "", false},
		"IPv6, the smaller one":           {[]wire.RangeCondition{allow("2001:db8::/32"), block("2001:db8:1::/48")}, nil, "2001:db8:1::5", "", false},
		"v4 in v6":                        {[]wire.RangeCondition{allow("192.0.2.0/24")}, nil, "::ffff:192.0.2.7", "", true},
		"every v4 is no v6":               {[]wire.RangeCondition{allow("0.0.0.0/0")}, nil, "2001:db8::1", "", false},
		"country allowed":                 {nil, []wire.CountryCondition{in("GB")}, "192.0.2.7", "gb", true},
		"country not among them":          {nil, []wire.CountryCondition{in("GB")}, "192.0.2.7", "FR", false},
		"country blocked":                 {nil, []wire.CountryCondition{notIn("FR")}, "192.0.2.7", "FR", false},
		"another is blocked":              {nil, []wire.CountryCondition{notIn("FR")}, "192.0.2.7", "GB", true},
		"unknown country, some allowed":   {nil, []wire.CountryCondition{in("GB")}, "192.0.2.7", "", false},
		"unknown country, some blocked":   {nil, []wire.CountryCondition{notIn("GB")}, "192.0.2.7", "", true},
		"a country rescues no range":      {[]wire.RangeCondition{block("192.0.2.0/24")}, []wire.CountryCondition{in("GB")}, "192.0.2.7", "GB", false},
		"a range rescues no country":      {[]wire.RangeCondition{allow("192.0.2.0/24")}, []wire.CountryCondition{in("GB")}, "192.0.2.7", "FR", false},
		"an address that nobody knows of": {[]wire.RangeCondition{block("192.0.2.0/24")}, nil, "", "", false},
	} {
		r := wire.Requirement{ID: "office", Kind: wire.PublicIP, Ranges: tc.ranges, Countries: tc.countries}
		if l := ValidateRequirement(&r, ""); len(l) > 0 {
			t.Errorf("%s: %v", name, l)
		}
		addr, _ := netip.ParseAddr(tc.addr)
		if got, why := MeetsIP(&r, addr, tc.country); got != tc.want || why == "" {
			t.Errorf("%s: %v (%s), want %v", name, got, why, tc.want)
		}
	}
}

func TestMeetsClaims(t *testing.T) {
	r := wire.Requirement{ID: "ops", Kind: wire.UserAuthentication, Authority: "local",
		Claims: []wire.ClaimCondition{{Claim: "groups", Value: "ops"}, {Claim: "mfa", Value: "true"}}}
	for name, tc := range map[string]struct {
		claims map[string][]string
		want   bool
	}{
		"all":        {map[string][]string{"groups": {"dev", "ops"}, "mfa": {"true"}}, true},
		"one of two": {map[string][]string{"groups": {"ops"}}, false},
		"wrong":      {map[string][]string{"groups": {"dev"}, "mfa": {"true"}}, false},
		"a prefix":   {map[string][]string{"groups": {"ops-interns"}, "mfa": {"true"}}, false},
		"none":       {nil, false},
	} {
		if got, why := MeetsClaims(&r, tc.claims); got != tc.want || why == "" {
			t.Errorf("%s: %v (%s), want %v", name, got, why, tc.want)
		}
	}
}

func TestRequirementMistakesAreAllNamed(t *testing.T) {
	r := wire.Requirement{ID: "", Kind: wire.PublicIP, Authority: "local", Claims: []wire.ClaimCondition{{}},
		Ranges:    []wire.RangeCondition{{Range: "192.0.2.9-192.0.2.1"}, {Range: "192.0.2.1/24"}, {Range: "x"}, {Range: "::1-192.0.2.1"}},
		Countries: []wire.CountryCondition{{Country: "GBR"}}}
	got := ValidateRequirement(&r, "requirements[0]")
	for _, want := range []string{"id", "authority", "claims", "ranges[0].range: the range is reversed", "ranges[1].range: the prefix has bits",
		"ranges[2].range: want an address", "ranges[3].range: the ends", "countries[0].country"} {
		found := false
		for _, p := range got {
			found = found || strings.HasPrefix(p.Error(), "requirements[0]."+want)
		}
		if !found {
			t.Errorf("no problem %q in %v", want, got)
		}
	}
}

func TestCountries(t *testing.T) {
	c, err := ParseCountries(strings.NewReader("# test\n192.0.2.0/24,GB\n198.51.100.0-198.51.100.9 , fr\n\n2001:db8::/32,DE # x\n"))
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{"192.0.2.0": "GB", "192.0.2.255": "GB", "192.0.3.0": "", "192.0.1.255": "", "198.51.100.9": "FR",
		"198.51.100.10": "", "2001:db8:ffff::1": "DE", "2001:db9::1": "", "::ffff:192.0.2.1": "GB"} {
		if got := c.Country(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
	}
	for _, bad := range []string{"192.0.2.0/24", "192.0.2.0/24,GBR", "x,GB", "192.0.2.0/24,GB\n192.0.2.5,FR"} {
		if _, err := ParseCountries(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if got := (*Countries)(nil).Country(netip.MustParseAddr("192.0.2.1")); got != "" {
		t.Errorf("no table knows %q", got)
	}
}

func FuzzSpread(f *testing.F) {
	for _, s := range []string{"192.0.2.1", "192.0.2.0/24", "192.0.2.1-192.0.2.9", "2001:db8::/32", "::-::1", "fe80::1%eth0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseSpread(s)
		if err != nil {
			return
		}
		if !r.contains(r.first) || !r.contains(r.last) || r.smaller(r) {
			t.Errorf("%q reads as %v", s, r)
		}
		if again, err := parseSpread(r.first.String() + "-" + r.last.String()); err != nil || again != r {
			t.Errorf("%q reads back as %v, %v", s, again, err)
		}
	})
}

func FuzzCountries(f *testing.F) {
	f.Add("192.0.2.0/24,GB\n2001:db8::/32,DE")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseCountries(strings.NewReader(s))
		if err == nil {
			c.Country(netip.MustParseAddr("192.0.2.7"))
			c.Country(netip.MustParseAddr("2001:db8::7"))
		}
	})
}

func BenchmarkCountry(b *testing.B) {
	var lines strings.Builder
	for i := range 1 << 16 {
		lines.WriteString(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}).String() + "/24,GB\n")
	}
	c, err := ParseCountries(strings.NewReader(lines.String()))
	if err != nil {
		b.Fatal(err)
	}
	a := netip.MustParseAddr("10.77.3.9")
	b.ReportAllocs()
	for b.Loop() {
		c.Country(a)
	}
}
