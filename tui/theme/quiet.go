package theme

import "github.com/charmbracelet/lipgloss"

// quiet keeps a question from every terminal. Package bubbletea asks for the background
// colour as it is initialised, so each command of this program would write that question
// to its terminal, and wait five seconds where nothing answers. Nothing here draws by the
// background. It has to be said before bubbletea is initialised, hence this one exception
// from having no work at initialisation: packages are initialised in the order of their
// paths (language specification, "Program initialization"), and this one comes first.
// e2e/terminal confirms it.
var _ = quiet()

func quiet() bool {
	lipgloss.SetHasDarkBackground(true)
	return true
}
