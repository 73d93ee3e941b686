// This module stands in the program for the one whose path it has: go.mod of the program
// replaces that. The backtracking engine is not linked at all. Decision 0215.
module github.com/dlclark/regexp2/v2

go 1.26

require github.com/dop251/goja v0.0.0-20260917113740-793a2a65c13b
