package engine

import (
	"testing"

	"enclave/sandbox"
)

// TestThereIsNoIntl: a language is no radix, and what would be wrong without what is asked for
// is refused in words that say what to do.
func TestThereIsNoIntl(t *testing.T) {
	for source, want := range map[string]string{
		"return [(1234.5).toLocaleString('en-US'), 12n.toLocaleString('de'), (255).toLocaleString(16), [1.5, 2].toLocaleString('en')]": `["1234.5","12","255","1.5,2"]`,
		"return (1).toLocaleString('en-US', { style: 'percent' })":                                                                     `EXECUTION_ERROR: TypeError: toLocaleString takes no options here, there is no Intl; round with toFixed(2), and add signs and units yourself`,
		"return new Date(0).toLocaleDateString('en-US', { timeZone: 'UTC', month: 'short' })":                                          `"01/01/1970"`,
		"return new Date(0).toLocaleTimeString('en-US', { timeZone: 'Asia/Tokyo' })":                                                   `EXECUTION_ERROR: RangeError: there is no time zone but UTC here; shift the date by the hours that it is off, and say which zone that is`,
	} {
		if res, _ := runWith(t, sandbox.Spec{Source: source}); describe(res) != want {
			t.Errorf("%s: %s, want %s", source, describe(res), want)
		}
	}
}

// TestErrorsSayWhatToDo where a member is called that is not there.
func TestErrorsSayWhatToDo(t *testing.T) {
	for source, want := range map[string]string{
		"return ({ items: [] }).map(x => x)":             "EXECUTION_ERROR: TypeError: Object has no member 'map'" + notAList,
		"return new Map().keys().filter(x => x)":         "EXECUTION_ERROR: TypeError: Object has no member 'filter'" + notAList,
		"return Object.groupBy([1], x => x)":             "EXECUTION_ERROR: TypeError: Object has no member 'groupBy'" + meant["groupBy"],
		"const f = ({ a }) => a; return f(null)":         "EXECUTION_ERROR: TypeError: null and undefined have no members: give a pattern a default (= {}), or ask with ?.",
		"return ({}).other()":                            "EXECUTION_ERROR: TypeError: Object has no member 'other'",
		"throw new TypeError('Object has no member')":    "EXECUTION_ERROR: TypeError: Object has no member",
		"return String({ toString: 1, valueOf: null })":  "EXECUTION_ERROR: TypeError: " + described,
		"return String({ __proto__: null, a: () => 1 })": "EXECUTION_ERROR: TypeError: " + described,
	} {
		if res, _ := runWith(t, sandbox.Spec{Source: source}); describe(res) != want {
			t.Errorf("%s: %s, want %s", source, describe(res), want)
		}
	}
}
