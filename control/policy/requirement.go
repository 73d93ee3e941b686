package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"enclave/wire"
)

// Maximum sizes of a trust requirement.
const (
	MaxClaims     = 32   // claim conditions
	MaxClaimLen   = 256  // bytes of a claim's name or value
	MaxRanges     = 1024 // range conditions
	MaxCountries  = 300  // country conditions; there are fewer countries
	MaxAuthority  = 512  // bytes of an authority
	localAccounts = "local"
)

// ValidateRequirement returns every mistake of r, each with its place under path.
func ValidateRequirement(r *wire.Requirement, path string) []wire.Problem {
	var l problems
	if r.ID == "" || len(r.ID) > MaxTrustLen || strings.ContainsFunc(r.ID, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		l.add(field(path, "id"), "want 1 to %d bytes without blanks", MaxTrustLen)
	}
	l.text(field(path, "description"), r.Description, wire.MaxNameLen, false)
	switch r.Kind {
	case wire.UserAuthentication:
		if len(r.Ranges) > 0 {
			l.add(field(path, "ranges"), "a user-authentication requirement has none")
		}
		if len(r.Countries) > 0 {
			l.add(field(path, "countries"), "a user-authentication requirement has none")
		}
		l.authority(field(path, "authority"), r.Authority)
		l.claims(field(path, "claims"), r.Claims)
	case wire.PublicIP:
		if r.Authority != "" {
			l.add(field(path, "authority"), "a public-ip requirement has none")
		}
		if len(r.Claims) > 0 {
			l.add(field(path, "claims"), "a public-ip requirement has none")
		}
		if len(r.Ranges)+len(r.Countries) == 0 {
			l.add(field(path, "ranges"), "want at least one range or country: without any, every address would do")
		}
		l.ranges(field(path, "ranges"), r.Ranges)
		l.countries(field(path, "countries"), r.Countries)
	default:
		l.add(field(path, "kind"), "want %s or %s", wire.UserAuthentication, wire.PublicIP)
	}
	return l
}

func (l *problems) authority(path, s string) {
	if s != localAccounts && (!strings.HasPrefix(s, "https://") || len(s) > MaxAuthority || len(s) == len("https://")) {
		l.add(path, "want %q, or the https:// address of an OIDC issuer", localAccounts)
	}
}

func (l *problems) claims(path string, claims []wire.ClaimCondition) {
	l.atMost(path, len(claims), MaxClaims, "conditions")
	for i, c := range claims {
		for _, f := range [][2]string{{"claim", c.Claim}, {"value", c.Value}} {
			if f[1] == "" || len(f[1]) > MaxClaimLen {
				l.add(field(index(path, i), f[0]), "want 1 to %d bytes", MaxClaimLen)
			}
		}
	}
}

func (l *problems) ranges(path string, ranges []wire.RangeCondition) {
	l.atMost(path, len(ranges), MaxRanges, "ranges")
	for i, c := range ranges {
		if _, err := parseSpread(c.Range); err != nil {
			l.add(field(index(path, i), "range"), "%v", err)
		}
	}
}

func (l *problems) countries(path string, countries []wire.CountryCondition) {
	l.atMost(path, len(countries), MaxCountries, "countries")
	for i, c := range countries {
		if !isCountry(c.Country) {
			l.add(field(index(path, i), "country"), "want two letters of ISO 3166-1")
		}
	}
}

func isCountry(s string) bool {
	letter := func(b byte) bool { return 'a' <= b|0x20 && b|0x20 <= 'z' }
	return len(s) == 2 && letter(s[0]) && letter(s[1])
}

// spread is a range of addresses, both ends included.
type spread struct{ first, last netip.Addr }

// parseSpread reads one address, a CIDR prefix or first-last.
func parseSpread(s string) (r spread, err error) {
	const want = "want an address, a prefix like 192.0.2.0/24 or a range like 192.0.2.1-192.0.2.9"
	if len(s) > 100 {
		return r, errors.New(want)
	}
	if a, b, ok := strings.Cut(s, "-"); ok {
		if r.first, err = netip.ParseAddr(strings.TrimSpace(a)); err == nil {
			r.last, err = netip.ParseAddr(strings.TrimSpace(b))
		}
	} else if strings.Contains(s, "/") {
		var p netip.Prefix
		if p, err = netip.ParsePrefix(s); err == nil {
			if p != p.Masked() {
				return r, fmt.Errorf("the prefix has bits beyond its length: write %s", p.Masked())
			}
			r = spread{p.Addr(), last(p)}
		}
	} else {
		r.first, err = netip.ParseAddr(s)
		r.last = r.first
	}
	if err != nil || r.first.Zone() != "" || r.last.Zone() != "" {
		return r, errors.New(want)
	}
	r.first, r.last = r.first.Unmap(), r.last.Unmap()
	if r.first.Is4() != r.last.Is4() {
		return r, fmt.Errorf("the ends of the range are of two families")
	}
	if r.last.Less(r.first) {
		return r, fmt.Errorf("the range is reversed: write %s-%s", r.last, r.first)
	}
	return r, nil
}

func (r spread) contains(a netip.Addr) bool {
	return r.first.Is4() == a.Is4() && !a.Less(r.first) && !r.last.Less(a)
}

// CheckRange says what is wrong with an address, a prefix or a range of addresses.
func CheckRange(s string) error {
	_, err := parseSpread(s)
	return err
}

// InRanges reports whether one of them holds an address. What cannot be read holds none.
func InRanges(ranges []string, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(ranges, func(s string) bool {
		r, err := parseSpread(s)
		return err == nil && r.contains(a)
	})
}

// smaller reports whether r holds fewer addresses than o; both contain one address,
// so they are of one family.
func (r spread) smaller(o spread) bool { return less(r.size(), o.size()) }

// size is last minus first as a 128-bit number.
func (r spread) size() (n [16]byte) {
	a, b := r.first.As16(), r.last.As16()
	borrow := 0
	for i := 15; i >= 0; i-- {
		d := int(b[i]) - int(a[i]) - borrow
		borrow = 0
		if d < 0 {
			d, borrow = d+256, 1
		}
		n[i] = byte(d)
	}
	return n
}

func less(a, b [16]byte) bool { return slices.Compare(a[:], b[:]) < 0 }

// MeetsIP reports whether an address, in a country where that is known, meets a
// public-ip requirement, and why. Ranges pass if nothing blocks or something allows,
// and the smallest range that contains the address decides; of two of one size the
// blocking one. Countries pass if not blocked and, where any is allowed, allowed: an
// unknown country is none of those. Both must pass.
func MeetsIP(r *wire.Requirement, addr netip.Addr, country string) (ok bool, why string) {
	addr = addr.Unmap()
	if !addr.IsValid() {
		return false, "its public address is not known"
	}
	if ok, why := meetsRanges(r.Ranges, addr); !ok {
		return false, why
	}
	return meetsCountries(r.Countries, country)
}

func meetsRanges(conditions []wire.RangeCondition, addr netip.Addr) (bool, string) {
	var best spread
	var decides *wire.RangeCondition
	anyAllow := false
	for i := range conditions {
		c := &conditions[i]
		anyAllow = anyAllow || !c.Blocked
		s, err := parseSpread(c.Range)
		if err != nil || !s.contains(addr) {
			continue
		}
		if decides == nil || s.smaller(best) || (c.Blocked && !decides.Blocked && s.size() == best.size()) {
			best, decides = s, c
		}
	}
	switch {
	case decides == nil && anyAllow:
		return false, fmt.Sprintf("no allowed range contains %s", addr)
	case decides == nil:
		return true, fmt.Sprintf("no blocked range contains %s", addr)
	case decides.Blocked:
		return false, fmt.Sprintf("%s is in the blocked range %s", addr, decides.Range)
	}
	return true, fmt.Sprintf("%s is in the allowed range %s", addr, decides.Range)
}

func meetsCountries(conditions []wire.CountryCondition, country string) (bool, string) {
	if len(conditions) == 0 {
		return true, "its public address is fine"
	}
	known := country
	if known == "" {
		known = "an unknown country"
	}
	allowed, anyAllow := false, false
	for _, c := range conditions {
		same := strings.EqualFold(c.Country, country)
		if same && c.Blocked {
			return false, known + " is blocked"
		}
		anyAllow = anyAllow || !c.Blocked
		allowed = allowed || same && !c.Blocked
	}
	if anyAllow && !allowed {
		return false, known + " is not among the allowed countries"
	}
	return true, known + " is fine"
}

// MeetsClaims reports whether the claims of a sign-in meet every condition of a
// user-authentication requirement, and why.
func MeetsClaims(r *wire.Requirement, claims map[string][]string) (ok bool, why string) {
	for _, c := range r.Claims {
		values, present := claims[c.Claim]
		if !present {
			return false, fmt.Sprintf("the sign-in has no claim %q", c.Claim)
		}
		if !slices.Contains(values, c.Value) {
			return false, fmt.Sprintf("the claim %q is not %q", c.Claim, c.Value)
		}
	}
	return true, "the sign-in meets every condition"
}
