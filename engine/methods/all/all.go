// Package all enrols every method: importing it is all it takes.
package all

import (
	_ "broadside/engine/methods/absa"
	_ "broadside/engine/methods/fb"
	_ "broadside/engine/methods/forwardgrad"
	_ "broadside/engine/methods/gg"
)
