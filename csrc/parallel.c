#include "internal.h"
void frnn_set_threads(int n) { (void)n; }
