package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// exitMeaning is what an exit code tells a script.
type exitMeaning struct {
	Code    int    `json:"code"`
	Meaning string `json:"meaning"`
	Next    string `json:"next"` // what a script does then
}

var exitMeanings = [...]exitMeaning{ // read only
	exitOK:        {exitOK, "it is done", ""},
	exitRefused:   {exitRefused, "refused: the server, or what was asked about, says no", "read why; the same again is refused again"},
	exitUsage:     {exitUsage, "bad usage or input", "mend the command line or the file"},
	exitSignIn:    {exitSignIn, "not signed in", "pass a token, or run \"enclave login\""},
	exitForbidden: {exitForbidden, "forbidden: this token, or this identity, may not", "ask who may make another token"},
	exitNotFound:  {exitNotFound, "not found", "list what there is"},
	exitTryAgain:  {exitTryAgain, "not now: unreachable, busy, out of time or of room", "try again later"},
	exitDamaged:   {exitDamaged, "local state is damaged, or a file is not what was signed", "change nothing; look at it"},
}

func (a *app) exitCodes() *cobra.Command {
	var text strings.Builder
	for _, e := range exitMeanings {
		fmt.Fprintf(&text, "  %d  %s\n", e.Code, e.Meaning)
	}
	return &cobra.Command{Use: "exit-codes", Short: "Say what the exit codes mean",
		Long: "Every command ends with one of these codes, which are a contract with scripts:\n\n" + text.String() + `
With --json an error is one JSON object on stderr, whose "code" says more closely what it
was and stays the same from version to version; "hint" is what next.`,
		Example: "  enclave exit-codes --json",
		Args:    exactly(), RunE: func(*cobra.Command, []string) error {
			return a.print(exitMeanings, func(w io.Writer) {
				rows := [][]string{{"CODE", "MEANING", "NEXT"}}
				for _, e := range exitMeanings {
					rows = append(rows, []string{num(e.Code), e.Meaning, orDash(e.Next)})
				}
				table(w, rows...)
			})
		}}
}
