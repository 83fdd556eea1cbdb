// Package all enrols every method: importing it is all it takes.
package all

import (
	_ "broadside/engine/methods/absa"
	_ "broadside/engine/methods/adabatch"
	_ "broadside/engine/methods/batchaug"
	_ "broadside/engine/methods/batchsched"
	_ "broadside/engine/methods/conadv"
	_ "broadside/engine/methods/extrap"
	_ "broadside/engine/methods/fb"
	_ "broadside/engine/methods/free"
	_ "broadside/engine/methods/gg"
	_ "broadside/engine/methods/noise"
	_ "broadside/engine/methods/persample"
	_ "broadside/engine/methods/pgd"
	_ "broadside/engine/methods/regime"
	_ "broadside/engine/methods/sam"
	_ "broadside/engine/methods/smallloss"
	_ "broadside/engine/methods/swap"
)
