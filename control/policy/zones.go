package policy

import (
	_ "embed"
	"strings"
	_ "time/tzdata" // a machine without zone files decides like any other
)

// zoneNames lists the names of the IANA database, one a line. The list, not the
// loader, says what a zone is: loaders take paths, "Local", right/ zones that count
// leap seconds, and on some file systems any case.
//
//go:embed zones.txt
var zoneNames string

func isZone(name string) bool {
	if name == "" || strings.Contains(name, "\n") {
		return false
	}
	return strings.HasPrefix(zoneNames, name+"\n") || strings.Contains(zoneNames, "\n"+name+"\n")
}
