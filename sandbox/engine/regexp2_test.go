package engine

import (
	"regexp"
	"slices"
	"strconv"
	"testing"
	"unicode/utf8"

	"github.com/dlclark/regexp2/v2"
	"github.com/dop251/goja/parser"

	"enclave/sandbox"
)

// TestNoPatternBacktracks runs, in all ways in which the interpreter searches, a pattern for
// which an engine that backtracks needs longer than anybody waits.
func TestNoPatternBacktracks(t *testing.T) {
	const text = "const s = 'a'.repeat(60), u = s + '\u00e9', r = /(a+)+b/g, y = /(a+)+b/y, v = /(a+)+b/gu;"
	for _, script := range []string{
		"return r.exec(s)",
		"r.lastIndex = 1; return r.exec(s)",
		"r.lastIndex = 1; return r.test(s) ? 1 : null",
		"y.lastIndex = 2; return y.exec(s)",
		"y.lastIndex = 2; return y.exec(u)",
		"v.lastIndex = 3; return v.exec(u)",
		"return u.match(r)",
		"return u.match(v)",
		"return u.replace(r, '') === u ? null : 1",
		"return u.replaceAll(v, '') === u ? null : 1",
		"return u.split(/(a+)+b/).length === 1 ? null : 1",
		"return [...('aab' + u).matchAll(r)].length === 1 ? null : 1",
		"return [...('aab\U0001F600' + u).matchAll(v)].length === 1 ? null : 1",
	} {
		if res, _ := runWith(t, sandbox.Spec{Source: text + script}); describe(res) != "null" {
			t.Errorf("%s: %s", script, describe(res))
		}
	}
}

// TestNamesOfGroups: every match has them, by whichever way it was found.
func TestNamesOfGroups(t *testing.T) {
	for source, want := range map[string]string{
		`const out = []; for (const m of 'a1b2é3x'.matchAll(/(?<y>\d)(?<z>x)?/g)) out.push([m.groups.y, m.groups.z]); return out`: `[["1",null],["2",null],["3","x"]]`,
		`return 'a1b2'.replace(/(?<y>\d)/g, '<$<y>>')`:                                                     `"a<1>b<2>"`,
		`return 'éa1b2'.replace(/(?<y>\d)/g, '<$<y>>')`:                                                    `"éa<1>b<2>"`,
		`const f = ['u']; return new RegExp('(?<y>.)', f[0])`:                                              `EXECUTION_ERROR: SyntaxError: it has the flag u and names a group; leave out one of both, and use the group's number`,
		`return 'éa1b2'.replace(/(\d)(?<y>b)?/g, (...a) => typeof a[a.length - 1].y)`:                      `"éastringundefined"`,
		`const r = /(?<y>.)/y; r.lastIndex = 2; return [r.exec('abc').groups.y, r.exec('é'), r.lastIndex]`: `["c",null,0]`,
	} {
		if res, _ := runWith(t, sandbox.Spec{Source: source, Level: sandbox.Permissive}); describe(res) != want {
			t.Errorf("%s: %s, want %s", source, describe(res), want)
		}
	}
}

// TestAllMatches: an empty match stands beside another, and at the end of the text.
func TestAllMatches(t *testing.T) {
	re, err := regexp2.Compile("a|", regexp2.ECMAScript)
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for m, err := re.FindRunesMatchStartingAt([]rune("éab"), 0); m != nil; m, err = re.FindNextMatch(m) {
		if err != nil || len(got) > 8 {
			t.Fatal(err, got)
		}
		got = append(got, m.Groups()[0].RuneIndex, m.Groups()[0].RuneLength)
	}
	if want := []int{0, 0, 1, 1, 2, 0, 3, 0}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// FuzzRegexp2 compares a search from within a text with trying each place in turn.
func FuzzRegexp2(f *testing.F) {
	for _, s := range []struct {
		pattern, text string
		options, at   uint8
	}{
		{`a|ab(c)?`, "xxabcabc", 0, 3}, {`^b`, "a\nb\nb", 2, 1}, {`\b\w+?\b`, "one two", 0, 2}, {`(a*)*?(b)?$`, "aab", 0, 1},
		{`(x)|(y)|`, "zzyx", 8, 1}, {`\Bé`, "aéé", 16, 1}, {`.`, "\n\u2028😀", 4, 1}, {`[^a]*`, "aaa", 0, 2}, {`^a`, "aa", 0, 1},
	} {
		f.Add(s.pattern, s.text, s.options, s.at)
	}
	f.Fuzz(func(t *testing.T, pattern, text string, options, at uint8) {
		runes := []rune(text)
		text = string(runes)
		if len(pattern) > 40 || len(runes) > 40 || int(at) > len(runes) {
			t.Skip()
		}
		// The pattern behind a gap of n characters, and anchored there: the first n that has a
		// match gives the leftmost.
		o := regexp2.RegexOptions(options)
		re, err := regexp2.Compile(pattern, o)
		if err != nil {
			t.Skip()
		}
		meant, err := parser.TransformRegExp(pattern, o&regexp2.Singleline != 0, o&regexp2.Unicode != 0)
		if err != nil {
			t.Fatal(err)
		}
		for option, flag := range map[regexp2.RegexOptions]string{regexp2.Multiline: "m", regexp2.Singleline: "s", regexp2.IgnoreCase: "i"} {
			if o&option != 0 {
				meant = "(?" + flag + ":" + meant + ")"
			}
		}
		behind := func(n int) *regexp.Regexp {
			return regexp.MustCompile(`\A(?s:.{` + strconv.Itoa(n) + `})(?:` + meant + `)`)
		}
		m, err := re.FindRunesMatchStartingAt(runes, int(at))
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		if m != nil {
			for _, g := range m.Groups() {
				if len(g.Captures) > 0 {
					got = append(got, g.RuneIndex, g.RuneIndex+g.RuneLength)
				} else {
					got = append(got, -1, -1)
				}
			}
		}
		var want []int
		for n := int(at); n <= len(runes) && want == nil; n++ {
			if want = behind(n).FindStringSubmatchIndex(text); want != nil {
				for i, at := range want {
					if at > 0 {
						want[i] = utf8.RuneCountInString(text[:at])
					}
				}
				want[0] = n
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q from %d in %q: %v, want %v", pattern, at, text, got, want)
		}
	})
}
