package policy

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
)

// MaxCountryRows bounds a country table.
const MaxCountryRows = 1 << 20

// Countries tells the country of an address from a table that the operator supplies.
// The zero value knows none.
type Countries struct {
	v4, v6 []countryRow // sorted by first, not overlapping
}

type countryRow struct {
	first, last netip.Addr
	country     string // interned: a lookup allocates nothing
}

// ParseCountries reads lines of "range,country", where range is an address, a prefix
// or first-last; # starts a comment. Ranges that overlap are refused: which of them
// counts would depend on their order.
func ParseCountries(r io.Reader) (*Countries, error) {
	c, names := new(Countries), make(map[string]string)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1024)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		where, country, ok := strings.Cut(text, ",")
		if country = strings.ToUpper(strings.TrimSpace(country)); !ok || !isCountry(country) {
			return nil, fmt.Errorf("line %d: want range,country with a country of two letters", n)
		}
		s, err := parseSpread(strings.TrimSpace(where))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if names[country] == "" {
			names[country] = country
		}
		row := countryRow{s.first, s.last, names[country]}
		if s.first.Is4() {
			c.v4 = append(c.v4, row)
		} else {
			c.v6 = append(c.v6, row)
		}
		if len(c.v4)+len(c.v6) > MaxCountryRows {
			return nil, fmt.Errorf("more than %d lines", MaxCountryRows)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	for _, rows := range [][]countryRow{c.v4, c.v6} {
		slices.SortFunc(rows, func(a, b countryRow) int { return a.first.Compare(b.first) })
		for i := 1; i < len(rows); i++ {
			if !rows[i-1].last.Less(rows[i].first) {
				return nil, fmt.Errorf("the ranges that begin at %s and at %s overlap", rows[i-1].first, rows[i].first)
			}
		}
	}
	return c, nil
}

// Country returns the country of a, or "".
func (c *Countries) Country(a netip.Addr) string {
	a = a.Unmap()
	if c == nil || !a.IsValid() {
		return ""
	}
	rows := c.v4
	if !a.Is4() {
		rows = c.v6
	}
	i, found := slices.BinarySearchFunc(rows, a, func(r countryRow, a netip.Addr) int { return r.first.Compare(a) })
	if !found {
		i--
	}
	if i < 0 || rows[i].last.Less(a) {
		return ""
	}
	return rows[i].country
}
