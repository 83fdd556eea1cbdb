// Package all enrols every method: importing it is all it takes.
package all

import (
	_ "broadside/engine/methods/absa"
	_ "broadside/engine/methods/agc"
	_ "broadside/engine/methods/autowu"
	_ "broadside/engine/methods/bigbatch"
	_ "broadside/engine/methods/cabs"
	_ "broadside/engine/methods/cblr"
	_ "broadside/engine/methods/clars"
	_ "broadside/engine/methods/clip"
	_ "broadside/engine/methods/distance"
	_ "broadside/engine/methods/fb"
	_ "broadside/engine/methods/gg"
	_ "broadside/engine/methods/gns"
	_ "broadside/engine/methods/lamb"
	_ "broadside/engine/methods/lars"
	_ "broadside/engine/methods/structure"
	_ "broadside/engine/methods/vrsgd"
)
